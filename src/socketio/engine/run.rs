//! The run of a thread: frames written for one receiver while one read batch is worked on.
//!
//! They leave as one write when the receiver changes, when the run is long enough, or when the
//! batch ends. What several receivers are told of one thing in several packets leaves as one write
//! for each of them when all is said. Order is kept: whatever goes to a client from this thread
//! goes through here.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use crate::socketio::engine::sink::Sink;

/// A run is written when it is this long: more would not make the write cheaper.
const RUN_BYTES: usize = 32 * 1024;
/// Receivers that are told together, at most: then all of them are written to. A group of eight with two devices each,
/// twice over.
const TOGETHER_MAX: usize = 32;
/// What a thread keeps of the memory of a long run.
const KEPT_BYTES: usize = 64 * 1024;

thread_local! {
    static RUN: RefCell<Run> = const {
        RefCell::new(Run { open: false, together: false, target: None, frames: Vec::new(), others: Vec::new() })
    };
}

/// A receiver, and frames that it has not been sent.
type Waiting = (Arc<Sink>, Vec<u8>);

struct Run {
    /// A batch is being worked on.
    open: bool,
    /// Receivers may take turns.
    together: bool,
    target: Option<Arc<Sink>>,
    frames: Vec<u8>,
    /// Those whose turn is over for now, and what waits for them.
    others: Vec<Waiting>,
}

impl Run {
    fn flush(&mut self) {
        if let Some(target) = self.target.take() {
            target.write_frames(&self.frames);
        }
        self.frames.clear();
        self.frames.shrink_to(KEPT_BYTES);
    }

    fn flush_all(&mut self) {
        for (sink, frames) in self.others.drain(..) {
            sink.write_frames(&frames);
        }
        self.flush();
    }

    fn turn_to(&mut self, sink: &Arc<Sink>) {
        if self.target.as_ref().is_some_and(|it| Arc::ptr_eq(it, sink)) {
            return;
        }
        if self.together {
            self.put_aside();
            self.frames = self.take(sink).unwrap_or_default();
        } else {
            self.flush();
        }
        self.target = Some(Arc::clone(sink));
    }

    fn put_aside(&mut self) {
        let Some(target) = self.target.take().filter(|_| !self.frames.is_empty()) else { return };
        self.others.push((target, mem::take(&mut self.frames)));
        if self.others.len() >= TOGETHER_MAX {
            self.flush_all();
        }
    }

    /// What was put aside for `sink`.
    fn take(&mut self, sink: &Arc<Sink>) -> Option<Vec<u8>> {
        let index = self.others.iter().position(|(it, _)| Arc::ptr_eq(it, sink))?;
        Some(self.others.remove(index).1)
    }
}

/// Does `work`, holding writes back until they can leave together. Must not be nested.
pub fn batch<R>(work: impl FnOnce() -> R) -> R {
    RUN.with_borrow_mut(|run| run.open = true);
    let _flush = EndOfBatch;
    work()
}

/// Does `work`, in which some receivers are told several things in turns, and writes once to each of them. Must not be
/// nested.
pub fn together<R>(work: impl FnOnce() -> R) -> R {
    RUN.with_borrow_mut(|run| run.together = true);
    batch(work)
}

/// Writes the run out on every way out of a batch, a panic included.
struct EndOfBatch;

impl Drop for EndOfBatch {
    fn drop(&mut self) {
        RUN.with_borrow_mut(|run| {
            (run.open, run.together) = (false, false);
            run.flush_all();
        });
    }
}

/// Writes the frames that `encode` appends to `sink`, now or with the run.
pub fn append(sink: &Arc<Sink>, encode: impl FnOnce(&mut Vec<u8>)) {
    let frames = RUN.with_borrow_mut(|run| {
        run.turn_to(sink);
        mem::take(&mut run.frames)
    });
    let mut lent = Lent { sink, complete: frames.len(), frames };
    encode(&mut lent.frames);
    lent.complete = lent.frames.len();
}

/// The run's buffer while `encode` has it: `encode` is a stranger's code and may panic, or send.
struct Lent<'a> {
    sink: &'a Arc<Sink>,
    frames: Vec<u8>,
    /// Up to here the frames are whole.
    complete: usize,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.frames.truncate(self.complete);
        RUN.with_borrow_mut(|run| {
            if !run.frames.is_empty() {
                run.flush();
            }
            run.turn_to(self.sink);
            if run.frames.is_empty() {
                run.frames = mem::take(&mut self.frames);
            } else {
                run.frames.extend_from_slice(&self.frames);
            }
            if !run.open || run.frames.len() >= RUN_BYTES {
                run.flush();
            }
        });
    }
}

/// Writes out what this thread holds back for `sink`, which is about to say goodbye.
pub fn flush(sink: &Arc<Sink>) {
    RUN.with_borrow_mut(|run| {
        if run.target.as_ref().is_some_and(|it| Arc::ptr_eq(it, sink)) {
            run.flush();
        }
        if let Some(frames) = run.take(sink) {
            sink.write_frames(&frames);
        }
    });
}

/// Writes ready-made frames to `sink`, now or with the run.
pub fn write(sink: &Arc<Sink>, frames: &[u8]) {
    let open = RUN.with_borrow(|run| run.open);
    if open {
        append(sink, |out| out.extend_from_slice(frames));
    } else {
        sink.write_frames(frames);
    }
}
