//! What waits for one client, and who may write to it: data only, under the session's lock.

use std::task::Waker;

use crate::socketio::engine::packet::{CLOSE, NOOP, SEPARATOR};

/// Who may bring bytes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The next GET takes them.
    Polling,
    /// Whoever comes writes to the websocket.
    Writable,
    /// Somebody writes to the websocket; whoever comes appends.
    Writing,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not in sight.
    Open,
    /// Nothing more may be appended; what waits is still delivered, then the farewell.
    Leaving,
    /// Nothing more is delivered.
    Gone,
}

/// The bytes would exceed the bound: the client reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What a GET is answered with.
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    /// These packets.
    Payload(Vec<u8>),
    /// Nothing yet.
    Wait,
    /// The session is over and has said so already.
    Gone,
}

/// The outgoing side of one session.
#[derive(Debug)]
pub struct Outbox {
    /// Who may write.
    pub phase: Phase,
    /// How far the end has come.
    pub end: End,
    /// A websocket is probing: GETs are let go at once.
    pub upgrading: bool,
    /// A POST is under way.
    pub posting: bool,
    /// What waits: a polling payload in [`Phase::Polling`], frames otherwise.
    bytes: Vec<u8>,
    /// Bytes taken by the drainer and not yet written; they count against the bound.
    in_flight: usize,
    /// A GET is under way.
    getting: bool,
    getter: Option<Waker>,
    /// The last packet for a poller.
    farewell: &'static str,
}

impl Outbox {
    /// Empty, in this phase.
    pub const fn new(phase: Phase) -> Self {
        Self {
            phase,
            end: End::Open,
            upgrading: false,
            posting: false,
            bytes: Vec::new(),
            in_flight: 0,
            getting: false,
            getter: None,
            farewell: CLOSE,
        }
    }

    /// Appends whole packets in the layout of the phase.
    pub fn append(&mut self, packets: &[u8], bytes_max: usize) -> Result<(), Full> {
        if self.end != End::Open || packets.is_empty() {
            return Ok(());
        }
        let waiting = self.bytes.len() + self.in_flight;
        // One packet above the bound is let through where nothing waits: bounded by whoever
        // made it, and never deliverable otherwise.
        if waiting > 0 && waiting + packets.len() > bytes_max {
            return Err(Full);
        }
        if self.phase == Phase::Polling && !self.bytes.is_empty() {
            self.bytes.push(SEPARATOR);
        }
        self.bytes.extend_from_slice(packets);
        Ok(())
    }

    /// The farewell of a websocket that is being written to: it goes out last.
    pub fn append_last(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
    }

    /// Puts the rest of a write that was cut short before what came meanwhile.
    pub fn put_back(&mut self, rest: &[u8]) {
        self.bytes.splice(0..0, rest.iter().copied());
    }

    /// Whether something waits.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes all that waits.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Takes all that waits for the drainer, which reports to [`Outbox::written`].
    pub fn take_for_drain(&mut self) -> Vec<u8> {
        self.in_flight = self.bytes.len();
        self.take()
    }

    /// The drainer wrote this many bytes.
    pub fn written(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// Whether a packet would leave at once, with nothing waiting before it.
    pub const fn is_writable(&self) -> bool {
        let nothing_waits = self.bytes.is_empty() && self.in_flight == 0;
        match (self.phase, self.end) {
            (_, End::Leaving | End::Gone) => false,
            // One who writes this very moment is no backlog.
            (Phase::Writable | Phase::Writing, End::Open) => nothing_waits,
            (Phase::Polling, End::Open) => self.getter.is_some() && nothing_waits,
        }
    }

    /// A GET comes; false if another is under way.
    pub const fn begin_get(&mut self) -> bool {
        !std::mem::replace(&mut self.getting, true)
    }

    /// The GET is over.
    pub fn end_get(&mut self) {
        self.getting = false;
        self.getter = None;
    }

    /// What the GET under way is answered with.
    pub fn poll_get(&mut self, waker: &Waker) -> Polled {
        match self.end {
            End::Gone => return Polled::Gone,
            End::Leaving => return Polled::Payload(self.take_last()),
            End::Open => (),
        }
        if self.phase != Phase::Polling {
            return Polled::Payload(NOOP.into());
        }
        if !self.bytes.is_empty() {
            return Polled::Payload(self.take());
        }
        if self.upgrading {
            return Polled::Payload(NOOP.into());
        }
        self.getter = Some(waker.clone());
        Polled::Wait
    }

    /// The waker of the GET that waits, to be woken once the lock is gone.
    pub const fn take_getter(&mut self) -> Option<Waker> {
        self.getter.take()
    }

    /// Ends a polling session: `farewell` is the last packet for the GET that waits or, where
    /// `deliver` says so, for the next one.
    pub fn leave(&mut self, farewell: &'static str, deliver: bool) {
        self.farewell = farewell;
        self.end = if deliver || self.getting { End::Leaving } else { End::Gone };
    }

    /// The farewell comes by itself: clients act on a close before the events of the same payload.
    fn take_last(&mut self) -> Vec<u8> {
        if !self.bytes.is_empty() {
            return self.take();
        }
        self.end = End::Gone;
        self.farewell.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polling() -> Outbox {
        Outbox::new(Phase::Polling)
    }

    #[test]
    fn several_packets_leave_in_one_answer() {
        let mut out = polling();
        assert_eq!(out.append(b"4a", 100), Ok(()));
        assert_eq!(out.append(b"4b", 100), Ok(()));
        assert!(out.begin_get());
        assert_eq!(out.poll_get(Waker::noop()), Polled::Payload(b"4a\x1e4b".to_vec()));
        assert_eq!(out.poll_get(Waker::noop()), Polled::Wait);
    }

    #[test]
    fn one_get_at_a_time() {
        let mut out = polling();
        assert!(out.begin_get());
        assert!(!out.begin_get());
        out.end_get();
        assert!(out.begin_get());
    }

    #[test]
    fn the_bound_counts_what_the_drainer_holds() {
        let mut out = Outbox::new(Phase::Writing);
        assert_eq!(out.append(&[0; 60], 100), Ok(()));
        assert_eq!(out.take_for_drain().len(), 60);
        assert_eq!(out.append(&[0; 41], 100), Err(Full));
        out.written(1);
        assert_eq!(out.append(&[0; 41], 100), Ok(()));
    }

    #[test]
    fn one_packet_above_the_bound_passes_where_nothing_waits() {
        let mut out = polling();
        assert_eq!(out.append(&[0; 101], 100), Ok(()));
        assert_eq!(out.append(b"4", 100), Err(Full));
    }

    #[test]
    fn the_rest_of_a_write_goes_before_what_came_meanwhile() {
        let mut out = Outbox::new(Phase::Writing);
        assert_eq!(out.append(b"new", 100), Ok(()));
        out.put_back(b"rest,");
        assert_eq!(out.take(), b"rest,new");
    }

    #[test]
    fn an_upgrade_lets_gets_go_but_first_with_what_waits() {
        let mut out = polling();
        out.upgrading = true;
        assert_eq!(out.append(b"4a", 100), Ok(()));
        assert_eq!(out.poll_get(Waker::noop()), Polled::Payload(b"4a".to_vec()));
        assert_eq!(out.poll_get(Waker::noop()), Polled::Payload(b"6".to_vec()));
    }

    #[test]
    fn the_farewell_comes_last_by_itself_and_once() {
        let mut out = polling();
        assert_eq!(out.append(b"41", 100), Ok(()));
        out.leave(CLOSE, true);
        assert_eq!(out.append(b"4late", 100), Ok(()));
        assert_eq!(out.poll_get(Waker::noop()), Polled::Payload(b"41".to_vec()));
        assert_eq!(out.poll_get(Waker::noop()), Polled::Payload(b"1".to_vec()));
        assert_eq!(out.poll_get(Waker::noop()), Polled::Gone);
    }

    #[test]
    fn without_a_get_nobody_is_told_unless_asked_for() {
        let mut out = polling();
        out.leave(NOOP, false);
        assert_eq!(out.poll_get(Waker::noop()), Polled::Gone);
    }

    #[test]
    fn a_poller_is_writable_only_while_its_get_waits() {
        let mut out = polling();
        assert!(!out.is_writable());
        assert!(out.begin_get());
        assert_eq!(out.poll_get(Waker::noop()), Polled::Wait);
        assert!(out.is_writable());
        assert_eq!(out.append(b"4a", 100), Ok(()));
        assert!(!out.is_writable());
    }
}
