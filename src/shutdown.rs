//! How the process is told to stop, and to read its certificates again.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Ends at the first SIGTERM or SIGINT.
///
/// # Errors
/// Where the process may not install a signal handler. Errors come at once, not when awaited.
pub fn signalled() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "told to stop");
    })
}

/// SIGHUPs as they come: the operator's wish to read the TLS certificate again.
#[derive(Debug)]
pub struct Reloads(tokio::signal::unix::Signal);

impl Reloads {
    /// Listens from now on.
    pub fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one. Several that came meanwhile count as one.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Makes a trigger and what waits for it.
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

/// Tells every [`Stop`] made with it; dropping it does the same.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Stops; once and for ever.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Waits to be told to stop. Clones wait for the same word.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Ends when told, or when nobody is left who could tell.
    pub async fn stopped(&mut self) {
        // An error means that the trigger is gone, which is the same word.
        drop(self.0.wait_for(|stop| *stop).await);
    }

    /// Whether it has been told already.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_it() {
        let (stopper, stop) = stop();
        let mut clones = [stop.clone(), stop.clone()];
        assert!(!stop.is_stopped());
        stopper.stop();
        for clone in &mut clones {
            clone.stopped().await;
        }
        assert!(stop.is_stopped());
    }

    #[tokio::test]
    async fn a_lost_trigger_stops_too() {
        let (stopper, mut stop) = stop();
        drop(stopper);
        stop.stopped().await;
        assert!(stop.is_stopped());
    }
}
