//! One client that can be replaced: one that has lost its way for good does not find back by itself.

use std::sync::Arc;

use arc_swap::ArcSwap;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::types::Builder;
use tokio::task::JoinHandle;

/// A client, and how to make another.
pub(super) struct Line {
    builder: Builder,
    live: ArcSwap<Live>,
}

/// A client and the task that carries its connections.
struct Live {
    client: Client,
    task: JoinHandle<Result<(), Error>>,
}

impl Live {
    fn new(client: Client) -> Arc<Self> {
        let task = client.connect();
        Arc::new(Self { client, task })
    }
}

impl Drop for Live {
    /// Asking it to end would wait behind whatever it is stuck with.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Begins to connect, and goes on until it is dropped. `prepare` sees the client before.
    pub(super) fn open<T>(
        builder: Builder,
        prepare: impl FnOnce(&Client) -> T,
    ) -> Result<(Self, T), Error> {
        let client = builder.build()?;
        let prepared = prepare(&client);
        Ok((Self { builder, live: ArcSwap::new(Live::new(client)) }, prepared))
    }

    pub(super) fn client(&self) -> Client {
        self.live.load().client.clone()
    }

    /// Puts another client in the place of this one; what was asked of this one fails.
    pub(super) fn renew<T>(&self, prepare: impl FnOnce(&Client) -> T) -> Result<T, Error> {
        let client = self.builder.build()?;
        let prepared = prepare(&client);
        self.live.store(Live::new(client));
        Ok(prepared)
    }

    /// Its task has ended, which happens where the client meets what it does not expect.
    pub(super) fn is_dead(&self) -> bool {
        self.live.load().task.is_finished()
    }
}
