//! A stream of the driver's, and how far it has come.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::event::{BLOCKING_SYNC, DISABLE_TIMING};
use super::out_param;
use crate::device::cuda::codes::{CallResult, Code};
use crate::device::cuda::sys::{self, CUstreamCaptureMode};
use crate::error::Result;

/// CU_STREAM_NON_BLOCKING.
const NON_BLOCKING: u32 = 1;

/// A stream of our own, and how much of what was queued has been waited for: everything queued takes a ticket, a wait ends all
/// tickets taken before it.
pub(super) struct Queue {
    raw: sys::CUstream,
    taken: AtomicU64,
    ended: AtomicU64,
    /// The ticket of the last graph.
    graph: AtomicU64,
    /// What is queued is captured.
    captures: AtomicBool,
    /// Whether it is destroyed. Held by other threads while they mark it, so that meanwhile no capture begins.
    is_gone: Mutex<bool>,
}

// SAFETY: a handle that any thread may use; the driver locks its own state.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Of the current context.
    pub(super) fn new() -> std::result::Result<Queue, Code> {
        // SAFETY: a valid place; destroyed by `destroy`.
        let raw = out_param(ptr::null_mut(), |stream| unsafe { sys::cuStreamCreate(stream, NON_BLOCKING) })?;
        let (taken, ended, graph, captures, is_gone) = Default::default();
        Ok(Queue { raw, taken, ended, graph, captures, is_gone })
    }

    pub(super) fn raw(&self) -> sys::CUstream {
        self.raw
    }

    /// Whether it has ended all that was queued; waits for nothing. A capture that the question spoils has failed already.
    pub(super) fn query(&self) -> CallResult {
        // SAFETY: our own stream.
        unsafe { sys::cuStreamQuery(self.raw) }
    }

    /// Waits for everything queued.
    pub(super) fn synchronize(&self) -> CallResult {
        // SAFETY: our own stream.
        unsafe { sys::cuStreamSynchronize(self.raw) }
    }

    /// Something is queued: its ticket. None where it is captured, to be done whenever its graph is.
    pub(super) fn ticket(&self) -> Option<u64> {
        let captures = self.captures.load(Ordering::Acquire);
        (!captures).then(|| self.taken.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// A graph is queued.
    pub(super) fn graph_ticket(&self) {
        let ticket = self.ticket();
        self.graph.fetch_max(ticket.unwrap_or_default(), Ordering::AcqRel);
    }

    /// The ticket of the graph that was queued last.
    pub(super) fn last_graph(&self) -> u64 {
        self.graph.load(Ordering::Acquire)
    }

    /// The ticket of what was queued last.
    pub(super) fn last(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Runs a wait for everything queued. Where it succeeds, the tickets taken before it have ended.
    pub(super) fn end_tickets(&self, wait: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.last();
        wait()?;
        self.end(before);
        Ok(())
    }

    /// All tickets up to this one have ended.
    pub(super) fn end(&self, ticket: u64) {
        self.ended.fetch_max(ticket, Ordering::AcqRel);
    }

    /// Whether this ticket is known to have ended.
    pub(super) fn has_ended(&self, ticket: u64) -> bool {
        self.ended.load(Ordering::Acquire) >= ticket
    }

    /// Whether everything queued has been waited for.
    pub(super) fn is_idle(&self) -> bool {
        self.has_ended(self.last())
    }

    /// The end of what is queued, for other threads to wait for; `None` where there is nothing to wait for. Its context is current.
    pub(super) fn mark(&self, asleep: bool) -> std::result::Result<Option<Mark>, Code> {
        let is_gone = self.lock();
        if *is_gone || self.is_idle() {
            return Ok(None);
        }
        let flags = if asleep { DISABLE_TIMING | BLOCKING_SYNC } else { DISABLE_TIMING };
        // SAFETY: a valid place; destroyed in drop of Mark.
        let event = out_param(ptr::null_mut(), |event| unsafe { sys::cuEventCreate(event, flags) })?;
        let mark = Mark(event);
        // SAFETY: event and stream are ours and of one context; while the lock is held no capture begins, and while one
        // lasts there is nothing to wait for.
        unsafe { sys::cuEventRecord(event, self.raw) }?;
        Ok(Some(mark))
    }

    /// From here on what is queued is captured. It has been waited for.
    pub(super) fn begin_capture(&self) -> CallResult {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let _held = self.lock();
        // SAFETY: our own stream.
        unsafe { sys::cuStreamBeginCapture_v2(self.raw, mode) }?;
        self.captures.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn end_capture(&self) -> std::result::Result<sys::CUgraph, Code> {
        self.captures.store(false, Ordering::Release);
        // SAFETY: our own stream, which is capturing, and a valid place.
        out_param(ptr::null_mut(), |graph| unsafe { sys::cuStreamEndCapture(self.raw, graph) })
    }

    /// Once, while its context is current; it is not used again.
    pub(super) fn destroy(&self) {
        *self.lock() = true;
        // SAFETY: made by us, destroyed once; other threads leave it alone from now on.
        let _ = unsafe { sys::cuStreamDestroy_v2(self.raw) };
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A point of a stream that another thread waits for. The stream's own thread may queue on and on meanwhile, so that the stream
/// itself need never be found idle; and of a ticket that it takes just then nobody else knows whether it lies before the mark: no
/// tickets are ended by one.
pub(super) struct Mark(sys::CUevent);

impl Mark {
    pub(super) fn query(&self) -> CallResult {
        // SAFETY: our own event.
        unsafe { sys::cuEventQuery(self.0) }
    }

    pub(super) fn synchronize(&self) -> CallResult {
        // SAFETY: our own event.
        unsafe { sys::cuEventSynchronize(self.0) }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: made by us, destroyed once.
        let _ = unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}
