//! Memory for what a pass gives out on the GPU. The pass's outputs are copied there behind it, and there they stay, whatever the
//! device does meanwhile, until the streams that read them have.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::{Event, ForeignStream, Memory, Stream};
use super::staging::{bytes, place_of, places};
use crate::error::{Error, Result};
use crate::memory::Need;
use crate::ops::Buf;
use crate::plan::Plan;

/// Room for the outputs of one pass, one after the other. It may outlive its device, and be dropped and used on any thread.
pub struct Place {
    /// Which writes it.
    compute: Arc<Stream>,
    /// Which brings it to the host.
    down: Arc<Stream>,
    memory: Memory,
    /// The outputs of the last pass are here.
    done: Done,
    readers: Mutex<Readers>,
    /// For trying what happens without the wait for `done`.
    #[cfg(feature = "bench")]
    pub(super) omits_results: std::sync::atomic::AtomicBool,
}

/// When the outputs of a place's last pass are there; it outlives the place.
#[derive(Clone)]
pub struct Done {
    event: Arc<Event>,
    compute: Arc<Stream>,
}

/// The streams that read what is here.
#[derive(Default)]
struct Readers {
    streams: Vec<ForeignStream>,
    /// One for each stream at least; once a pass's users have gone, the first `ended` are recorded behind their reads.
    events: Vec<Event>,
    ended: usize,
    /// What some stream reads has no event behind it.
    is_unknown: bool,
}

/// What a place for passes of a plan takes.
pub fn need(plan: &Plan) -> Need {
    Need { device: bytes(plan, &plan.outputs) as u64, ..Need::default() }
}

impl Place {
    pub fn new(compute: &Arc<Stream>, plan: &Plan) -> Result<Place> {
        Ok(Place {
            down: compute.another()?,
            memory: compute.allocate(bytes(plan, &plan.outputs), "a frame's results on the GPU")?,
            done: Done { event: Arc::new(Event::untimed(compute)?), compute: Arc::clone(compute) },
            readers: Mutex::default(),
            compute: Arc::clone(compute),
            #[cfg(feature = "bench")]
            omits_results: Default::default(),
        })
    }

    /// Whether passes of this plan have room.
    pub fn holds(&self, plan: &Plan) -> bool {
        bytes(plan, &plan.outputs) <= self.memory.bytes()
    }

    /// Where a pass of this plan leaves an output, in bytes.
    pub fn at(plan: &Plan, output: Buf) -> usize {
        place_of(plan, &plan.outputs, output).expect("the buffer is an output of the plan")
    }

    /// On the GPU.
    pub fn address(&self) -> u64 {
        self.memory.address()
    }

    /// Of the GPU.
    pub fn ordinal(&self) -> usize {
        self.compute.info().ordinal
    }

    /// Queues the copies of a pass's outputs, behind it and behind what still reads those before.
    pub(super) fn fill(&self, plan: &Plan, arena: &Memory, omits_readers: bool) -> Result<()> {
        self.await_readers(omits_readers)?;
        places(plan, &plan.outputs).try_for_each(|(index, place)| {
            let buffer = &plan.buffers[index];
            self.compute.copy(arena, buffer.offset, &self.memory, place, buffer.bytes)
        })?;
        self.done.event.record()
    }

    fn await_readers(&self, omits: bool) -> Result<()> {
        let mut readers = self.readers();
        if readers.is_unknown {
            self.compute.synchronize_context()?;
        }
        if !omits {
            readers.events[..readers.ended].iter().try_for_each(|event| self.compute.follow(event))?;
        }
        (readers.ended, readers.is_unknown) = (0, false);
        Ok(())
    }

    /// What is queued on this stream from now on finds the outputs here.
    ///
    /// # Errors
    /// A stream that is being captured; whatever the driver answers.
    pub fn follow(&self, stream: u64) -> Result<()> {
        let _current = self.compute.enter()?;
        let stream = ForeignStream::new(stream);
        self.compute.check_foreign(stream)?;
        let mut readers = self.readers();
        if readers.events.len() == readers.streams.len() {
            readers.events.push(Event::untimed(&self.compute)?);
        }
        if !self.omits_results() {
            self.done.event.hold(stream)?;
        }
        if !readers.streams.contains(&stream) {
            readers.streams.push(stream);
        }
        Ok(())
    }

    #[cfg(feature = "bench")]
    fn omits_results(&self) -> bool {
        self.omits_results.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[cfg(not(feature = "bench"))]
    fn omits_results(&self) -> bool {
        false
    }

    /// Nobody asks for what is here any more; what is queued on the streams that followed still reads it. Waits for nothing.
    pub fn release(&self) {
        let mut readers = self.readers();
        let Readers { streams, events, ended, is_unknown } = &mut *readers;
        // A pass that never came here leaves those of the one before.
        if streams.is_empty() {
            return;
        }
        *ended = streams.len();
        let current = self.compute.enter_to_free();
        for (stream, event) in streams.drain(..).zip(events) {
            *is_unknown |= current.is_none() || self.mark(stream.for_any_thread(), event).is_err();
        }
    }

    /// Of a stream that is being captured, an event would become a part of that graph.
    fn mark(&self, stream: ForeignStream, event: &Event) -> Result<()> {
        self.compute.check_foreign(stream)?;
        event.record_on(stream)
    }

    /// When the outputs are here.
    pub fn done(&self) -> &Done {
        &self.done
    }

    /// Bytes of an output, from the place's byte `at` on; waits.
    ///
    /// # Errors
    /// As [`Done::wait`].
    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<()> {
        let _current = self.compute.enter()?;
        self.done.event.wait()?;
        self.down.download(&self.memory, at, into)
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Done {
    /// Waits for it.
    ///
    /// # Errors
    /// Whatever went wrong in the pass.
    pub fn wait(&self) -> Result<()> {
        let _current = self.compute.enter()?;
        self.event.wait()
    }

    /// Whether it is so; waits for nothing.
    ///
    /// # Errors
    /// As [`Done::wait`].
    pub fn is_reached(&self) -> Result<bool> {
        let _current = self.compute.enter()?;
        self.event.is_reached()
    }
}

impl Drop for Place {
    /// What still reads it is waited for: of memory that goes, the driver asks that of whoever gives it back.
    fn drop(&mut self) {
        let Some(_current) = self.compute.enter_to_free() else { return };
        let readers = self.readers();
        let waited = readers.events[..readers.ended].iter().try_for_each(Event::wait);
        if readers.is_unknown || waited.is_err() {
            let _: Result<(), Error> = self.compute.synchronize_context();
        }
    }
}
