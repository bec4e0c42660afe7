//! The stream: everything goes to it, in order.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::explain::Explain;
use super::out_param;
use crate::device::cuda::codes::CallResult;
use crate::device::cuda::sys;
use crate::error::Result;

/// CU_STREAM_NON_BLOCKING.
const NON_BLOCKING: u32 = 1;

/// A stream of our own, and how much of what was queued has been waited for: everything queued takes a ticket, a wait ends all
/// tickets taken before it.
pub(super) struct Stream {
    raw: sys::CUstream,
    taken: AtomicU64,
    ended: AtomicU64,
}

impl Stream {
    /// Of the current context.
    pub(super) fn new() -> Result<Stream> {
        // SAFETY: a valid place; destroyed by `destroy`.
        let raw = out_param(ptr::null_mut(), |stream| unsafe { sys::cuStreamCreate(stream, NON_BLOCKING) });
        let raw = raw.during(|| "making a CUDA stream".to_owned())?;
        Ok(Stream { raw, taken: AtomicU64::new(0), ended: AtomicU64::new(0) })
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

    /// Something is queued.
    pub(super) fn ticket(&self) {
        self.taken.fetch_add(1, Ordering::AcqRel);
    }

    /// Runs a wait for everything queued. Where it succeeds, the tickets taken before it have ended.
    pub(super) fn end_tickets(&self, wait: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.taken.load(Ordering::Acquire);
        wait()?;
        self.ended.fetch_max(before, Ordering::AcqRel);
        Ok(())
    }

    /// Whether everything queued has been waited for.
    pub(super) fn is_idle(&self) -> bool {
        self.taken.load(Ordering::Acquire) == self.ended.load(Ordering::Acquire)
    }

    /// Once, while its context is current; it is not used again.
    pub(super) fn destroy(&mut self) {
        // SAFETY: made by us, destroyed once.
        let _ = unsafe { sys::cuStreamDestroy_v2(self.raw) };
    }
}
