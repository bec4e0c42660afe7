//! Frames on their way to the engine: a few slots of memory that whoever has a frame writes to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::options::Policy;
use super::ring::{Ring, Spares};
use super::stats::{Counters, increment};
use super::waker::Waker;
use crate::engine::{FrameBuffer, FrameBuffers};
use crate::error::{Error, Result};
use crate::pixels::{Format, Image};

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits, as the frame of this number.
    Accepted(u64),
    /// It waits, as the frame of the first number, in the place of one of the second that nobody will see.
    Replaced(u64, u64),
    /// It does not: as many wait as may. Only where every frame is computed.
    Full,
}

/// One slot.
pub struct Entry {
    pub buffer: FrameBuffer,
    /// Of which engine the buffer is.
    generation: u64,
    pub sequence: u64,
    pub stamp: i64,
    pub pushed: Instant,
}

pub struct Inbox {
    ring: Ring,
    /// Whoever has a slot's number locks its entry, and nobody else.
    entries: Box<[Mutex<Entry>]>,
    writer: Mutex<Writer>,
    /// Of the engine of the present, and how many there were before it.
    buffers: Mutex<(FrameBuffers, u64)>,
    /// No more is pushed.
    is_closed: AtomicBool,
    /// What waits is not computed any more.
    is_stopped: AtomicBool,
    counters: Arc<Counters>,
    engine: Arc<Waker>,
    room: Room,
}

/// For those who wait until there is room. The engine takes its lock too: it is held for a look, never while a frame is written.
#[derive(Default)]
struct Room {
    /// How often there was more of it, or an end.
    changes: AtomicU64,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Room {
    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        // Whoever has looked and does not wait yet has the lock.
        drop(locked(&self.lock));
        self.changed.notify_all();
    }

    /// Until there were other changes than those that were seen, or for so long.
    fn wait(&self, seen: u64, most: Duration) {
        let lock = locked(&self.lock);
        if self.changes() == seen {
            drop(self.changed.wait_timeout(lock, most).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// One at a time.
struct Writer {
    /// A slot that is not filled yet.
    slot: Option<usize>,
    next: u64,
}

/// The engine's side.
pub struct Reader {
    pub inbox: Arc<Inbox>,
    spares: Spares,
}

/// Memory for one frame, which is its writer's until it is pushed; dropped before that it is as if it had never been.
pub struct Slot<'a> {
    inbox: &'a Inbox,
    writer: MutexGuard<'a, Writer>,
    entry: MutexGuard<'a, Entry>,
    number: usize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is whole whenever it is let go.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    /// For an engine that has so many frames at once; its side.
    pub fn with_reader(
        policy: Policy,
        at_once: usize,
        buffers: FrameBuffers,
        counters: &Arc<Counters>,
        engine: &Arc<Waker>,
    ) -> Reader {
        let (count, (ring, slot, spares)) = match policy {
            Policy::Newest => (at_once + 2, Ring::newest(at_once)),
            Policy::Every { queue } => {
                let count = queue.max(1) + at_once;
                (count, Ring::every(count))
            }
        };
        let entry = || {
            let (buffer, now) = (buffers.buffer(), Instant::now());
            Mutex::new(Entry { buffer, generation: 0, sequence: 0, stamp: 0, pushed: now })
        };
        let inbox = Inbox {
            ring,
            entries: (0..count).map(|_| entry()).collect(),
            writer: Mutex::new(Writer { slot, next: 0 }),
            buffers: Mutex::new((buffers, 0)),
            is_closed: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            counters: Arc::clone(counters),
            engine: Arc::clone(engine),
            room: Room::default(),
        };
        Reader { inbox: Arc::new(inbox), spares }
    }

    /// Memory for a frame; `None` where as many wait as may.
    ///
    /// # Errors
    /// As [`FrameBuffer::begin`]; [`Error::Busy`] once the stream is closed.
    pub fn slot(&self, format: Format, width: usize, height: usize) -> Result<Option<Slot<'_>>> {
        self.check_open()?;
        let mut writer = locked(&self.writer);
        if writer.slot.is_none() {
            writer.slot = self.ring.free();
        }
        let Some(number) = writer.slot else { return Ok(None) };
        let mut entry = locked(&self.entries[number]);
        self.renew_entry(&mut entry);
        entry.buffer.begin(format, width, height)?;
        Ok(Some(Slot { inbox: self, writer, entry, number }))
    }

    /// As [`Inbox::slot`], waiting for so long at most.
    pub fn slot_within(
        &self,
        format: Format,
        width: usize,
        height: usize,
        timeout: Duration,
    ) -> Result<Option<Slot<'_>>> {
        let until = Instant::now().checked_add(timeout);
        loop {
            let seen = self.room.changes();
            if let Some(slot) = self.slot(format, width, height)? {
                return Ok(Some(slot));
            }
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            self.room.wait(seen, left);
        }
    }

    /// Copies a frame of the host.
    pub fn push(&self, image: &Image<'_>, stamp: i64) -> Result<Pushed> {
        image.check()?;
        match self.slot(image.format(), image.width(), image.height())? {
            None => Ok(Pushed::Full),
            Some(mut slot) => {
                image.copy_into(slot.bytes())?;
                slot.push(stamp)
            }
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Busy("the stream is closed, and takes no more frames".to_owned()));
        }
        Ok(())
    }

    /// Memory of an engine that was lost is given back.
    fn renew_entry(&self, entry: &mut Entry) {
        let buffers = locked(&self.buffers);
        if entry.generation != buffers.1 {
            (entry.buffer, entry.generation) = (buffers.0.buffer(), buffers.1);
        }
    }

    /// There is another engine.
    pub fn renew(&self, buffers: FrameBuffers) {
        let mut present = locked(&self.buffers);
        *present = (buffers, present.1 + 1);
    }

    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.engine.wake();
        self.room.change();
    }

    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.close();
    }

    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// No more is pushed, but what waits is computed.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Whether a frame waits.
    pub fn has_frame(&self) -> bool {
        self.ring.has_filled()
    }
}

impl Slot<'_> {
    /// The frame's bytes, [`Format::bytes`] of them: rows and planes without padding. They hold some earlier frame until they are
    /// written.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.entry.buffer.bytes_mut()
    }

    /// Gives the frame to the engine, with its stamp, which its answer will have.
    ///
    /// # Errors
    /// [`Error::Busy`] once the stream is closed.
    pub fn push(self, stamp: i64) -> Result<Pushed> {
        let Slot { inbox, mut writer, mut entry, number } = self;
        inbox.check_open()?;
        let sequence = writer.next;
        (entry.sequence, entry.stamp, entry.pushed) = (sequence, stamp, Instant::now());
        drop(entry);
        writer.next += 1;
        increment(&inbox.counters.pushed);
        let filled = inbox.ring.fill(number);
        writer.slot = filled.next;
        let pushed = match filled.next.filter(|_| filled.is_replaced) {
            Some(replaced) => {
                increment(&inbox.counters.replaced);
                Pushed::Replaced(sequence, locked(&inbox.entries[replaced]).sequence)
            }
            None => Pushed::Accepted(sequence),
        };
        inbox.count_stale(inbox.ring.left_behind());
        inbox.engine.wake();
        Ok(pushed)
    }
}

impl Inbox {
    /// The engine takes nothing any more.
    pub fn end(&self) {
        self.close();
        self.count_stale(self.ring.end());
    }

    fn count_stale(&self, frames: usize) {
        self.counters.stale.fetch_add(frames as u64, Ordering::AcqRel);
    }
}

impl Reader {
    /// The number of a frame's slot; `None` where none waits.
    pub fn take(&mut self) -> Option<usize> {
        self.inbox.ring.take(&mut self.spares)
    }

    /// What lies in a slot that was taken, and whether the present engine can take it from there.
    pub fn entry(&self, number: usize) -> (MutexGuard<'_, Entry>, bool) {
        let entry = locked(&self.inbox.entries[number]);
        let can_be_taken = entry.buffer.is_plain() || entry.generation == locked(&self.inbox.buffers).1;
        (entry, can_be_taken)
    }

    /// Its frame is done with.
    pub fn give_back(&mut self, number: usize) {
        self.inbox.ring.give_back(&mut self.spares, number);
        self.inbox.room.change();
    }
}
