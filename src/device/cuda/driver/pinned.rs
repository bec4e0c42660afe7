//! Page-locked memory of the host, and copies that do not wait.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::calls::increment;
use super::memory::Memory;
use super::out_param;
use super::stream::Stream;
use crate::device::cuda::sys;
use crate::error::Result;

/// Page-locked memory of the host, for copies of one stream. It is looked at only while none of them is in flight.
pub struct Pinned {
    stream: Arc<Stream>,
    start: *mut u8,
    bytes: usize,
    /// The ticket of the last copy that was queued.
    last: AtomicU64,
    /// Whether copies were captured, so that any graph may have them.
    is_captured: AtomicBool,
}

// SAFETY: the memory is its own, as a Vec's is.
unsafe impl Send for Pinned {}

impl Pinned {
    /// On the host.
    pub fn address(&self) -> usize {
        self.start.addr()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its bytes, once its copies have ended.
    pub fn slice(&self) -> Result<&[u8]> {
        self.wait()?;
        // SAFETY: so many bytes, initialised when they were allocated; no copy is in flight, and whoever borrows them can queue
        // none but one that reads them.
        Ok(unsafe { std::slice::from_raw_parts(self.start, self.bytes) })
    }

    /// As [`Pinned::slice`].
    pub fn slice_mut(&mut self) -> Result<&mut [u8]> {
        self.wait()?;
        // SAFETY: as for `slice`.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) })
    }

    fn wait(&self) -> Result<()> {
        let (queue, last) = (&self.stream.queue, self.last.load(Ordering::Acquire));
        let is_captured = self.is_captured.load(Ordering::Acquire);
        let last = if is_captured { last.max(queue.last_graph()) } else { last };
        if queue.has_ended(last) { Ok(()) } else { self.stream.synchronize() }
    }

    /// Host → device: `count` bytes from `place` on, queued.
    pub fn send(&self, place: usize, to: &Memory, at: usize, count: usize) -> Result<()> {
        self.check(place, count);
        to.check(at, count);
        increment(&self.stream.counters.copies_in);
        self.ticket();
        let (to, from, stream) = (to.address() + at as u64, self.start.wrapping_add(place), self.stream.queue.raw());
        // SAFETY: in bounds of an allocation that is looked at only when the copy has ended, and not freed before (drop waits).
        let copied = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast(), count, stream) };
        self.stream.check(copied, || format!("copying {count} bytes to the GPU"))
    }

    /// Device → host: `count` bytes to `place` on, queued.
    pub fn receive(&mut self, place: usize, from: &Memory, at: usize, count: usize) -> Result<()> {
        self.check(place, count);
        from.check(at, count);
        increment(&self.stream.counters.copies_out);
        self.ticket();
        let (from, to, stream) = (from.address() + at as u64, self.start.wrapping_add(place), self.stream.queue.raw());
        // SAFETY: as for `send`.
        let copied = unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, count, stream) };
        self.stream.check(copied, || format!("copying {count} bytes from the GPU"))
    }

    /// A copy is about to be queued or captured.
    fn ticket(&self) {
        match self.stream.queue.ticket() {
            Some(ticket) => drop(self.last.fetch_max(ticket, Ordering::AcqRel)),
            None => self.is_captured.store(true, Ordering::Release),
        }
    }

    fn check(&self, place: usize, count: usize) {
        assert!(
            place <= self.bytes && count <= self.bytes - place,
            "{count} bytes at {place} of {} page-locked ones",
            self.bytes
        );
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A copy may be in flight for ever: the memory is left to it.
        if self.stream.context.hangs() {
            return;
        }
        let Ok(_current) = self.stream.context.push() else { return };
        if !self.stream.queue.is_idle() && self.stream.synchronize().is_err() && self.stream.context.hangs() {
            return;
        }
        // SAFETY: allocated by us, freed once, and no copy is in flight.
        let _ = unsafe { sys::cuMemFreeHost(self.start.cast()) };
    }
}

impl Stream {
    /// Page-locked memory of the host; `None` where it is not to be had.
    pub fn pinned(self: &Arc<Self>, bytes: usize) -> Result<Option<Pinned>> {
        let _current = self.enter()?;
        increment(&self.counters.allocations);
        // SAFETY: a valid place; freed in drop of Pinned.
        let start = out_param(ptr::null_mut(), |start| unsafe { sys::cuMemHostAlloc(start, bytes.max(1), 0) });
        let Ok(start) = start else { return Ok(None) };
        let start = start.cast::<u8>();
        // SAFETY: so many bytes were allocated.
        unsafe { start.write_bytes(0, bytes.max(1)) };
        let (last, is_captured) = Default::default();
        Ok(Some(Pinned { stream: Arc::clone(self), start, bytes, last, is_captured }))
    }
}
