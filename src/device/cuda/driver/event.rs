//! Points of a stream, and the time between them.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::calls::increment;
use super::out_param;
use super::stream::Stream;
use crate::device::cuda::codes::{CallResult, Code};
use crate::device::cuda::sys;
use crate::error::Result;

/// CU_EVENT_DEFAULT, _BLOCKING_SYNC and _DISABLE_TIMING.
const DEFAULT: u32 = 0;
pub(super) const BLOCKING_SYNC: u32 = 1;
pub(super) const DISABLE_TIMING: u32 = 2;

/// A point of its stream, and when it was reached.
pub struct Event {
    pub(super) event: sys::CUevent,
    pub(super) stream: Arc<Stream>,
    /// What was queued last when it was recorded.
    pub(super) ticket: AtomicU64,
}

// SAFETY: as for modules.
unsafe impl Send for Event {}
// SAFETY: as for contexts; the ticket is atomic.
unsafe impl Sync for Event {}

impl Event {
    /// One that tells the time.
    pub fn new(stream: &Arc<Stream>) -> Result<Event> {
        Self::with(stream, DEFAULT)
    }

    /// One that is only waited for.
    pub fn untimed(stream: &Arc<Stream>) -> Result<Event> {
        let asleep = stream.context.options().waiting.asleep;
        Self::with(stream, if asleep { DISABLE_TIMING | BLOCKING_SYNC } else { DISABLE_TIMING })
    }

    fn with(stream: &Arc<Stream>, flags: u32) -> Result<Event> {
        let _current = stream.enter()?;
        // SAFETY: a valid place; destroyed in drop.
        let event = out_param(ptr::null_mut(), |event| unsafe { sys::cuEventCreate(event, flags) });
        let event = stream.check(event, || "making a CUDA event".to_owned())?;
        Ok(Event { event, stream: Arc::clone(stream), ticket: AtomicU64::new(0) })
    }

    /// Here, behind everything queued on its stream.
    pub fn record(&self) -> Result<()> {
        increment(&self.stream.counters.records);
        self.ticket.store(self.stream.queue.last(), Ordering::Release);
        // SAFETY: event and stream are ours and of one context.
        let recorded = unsafe { sys::cuEventRecord(self.event, self.stream.queue.raw()) };
        self.stream.check(recorded, || "recording a CUDA event".to_owned())
    }

    /// Waits on the host until it is reached, and for nothing behind it.
    ///
    /// # Errors
    /// As [`Stream::synchronize`].
    pub fn wait(&self) -> Result<()> {
        increment(&self.stream.counters.synchronisations);
        let ticket = self.ticket.load(Ordering::Acquire);
        // SAFETY: our own event.
        let block = || unsafe { sys::cuEventSynchronize(self.event) };
        self.stream.context.wait(|| self.query(), block)?;
        self.stream.queue.end(ticket);
        Ok(())
    }

    /// Whether it is reached; waits for nothing.
    pub fn is_reached(&self) -> Result<bool> {
        let ticket = self.ticket.load(Ordering::Acquire);
        match self.query() {
            Err(Code::NOT_READY) => Ok(false),
            answer => {
                self.stream.check(answer, || "asking for a CUDA event".to_owned())?;
                self.stream.queue.end(ticket);
                Ok(true)
            }
        }
    }

    fn query(&self) -> CallResult {
        // SAFETY: our own event.
        unsafe { sys::cuEventQuery(self.event) }
    }

    /// Seconds from an earlier event; both must have been reached.
    pub fn seconds_since(&self, earlier: &Event) -> Result<f64> {
        // SAFETY: two events of one context, and a valid place.
        let elapsed =
            out_param(0.0f32, |elapsed| unsafe { sys::cuEventElapsedTime(elapsed, earlier.event, self.event) });
        let milliseconds = self.stream.check(elapsed, || "reading the time between CUDA events".to_owned())?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Stream {
    /// What is queued here from now on waits for the event's last record, on another stream of the context.
    pub fn follow(&self, event: &Event) -> Result<()> {
        increment(&self.counters.waits);
        // What follows may hang where the other stream does.
        self.queue.ticket();
        // SAFETY: stream and event are ours and of one context.
        let queued = unsafe { sys::cuStreamWaitEvent(self.queue.raw(), event.event, 0) };
        self.check(queued, || "waiting for a CUDA event".to_owned())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let Some(_current) = self.stream.context.enter_to_free() else { return };
        // SAFETY: made by us, destroyed once.
        let _ = unsafe { sys::cuEventDestroy_v2(self.event) };
    }
}
