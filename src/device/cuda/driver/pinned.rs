//! Page-locked memory of the host, and copies that do not wait.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;

use super::calls::increment;
use super::gpu::Gpu;
use super::memory::Memory;
use super::out_param;
use crate::device::cuda::sys;
use crate::error::Result;

/// Page-locked memory of the host. It is looked at only while nothing is queued, so no copy is ever in flight meanwhile.
pub struct Pinned {
    gpu: Arc<Gpu>,
    start: *mut u8,
    bytes: usize,
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

    /// Its bytes, once everything queued has ended.
    pub fn slice(&self) -> Result<&[u8]> {
        self.wait()?;
        // SAFETY: so many bytes, initialised when they were allocated; no copy is in flight, and only this object's owner can
        // queue another.
        Ok(unsafe { std::slice::from_raw_parts(self.start, self.bytes) })
    }

    /// As [`Pinned::slice`].
    pub fn slice_mut(&mut self) -> Result<&mut [u8]> {
        self.wait()?;
        // SAFETY: as for `slice`.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) })
    }

    fn wait(&self) -> Result<()> {
        if self.gpu.stream.is_idle() { Ok(()) } else { self.gpu.synchronize() }
    }

    /// Host → device: `count` bytes from `place` on, queued.
    pub fn send(&mut self, place: usize, to: &Memory, at: usize, count: usize) -> Result<()> {
        self.check(place, count);
        to.check(at, count);
        increment(&self.gpu.counters.copies_in);
        self.gpu.stream.ticket();
        let to = to.address() + at as u64;
        // SAFETY: in bounds of an allocation that is looked at only when the copy has ended, and not freed before (drop waits).
        let copied =
            unsafe { sys::cuMemcpyHtoDAsync_v2(to, self.start.add(place).cast(), count, self.gpu.stream.raw()) };
        self.gpu.check(copied, || format!("copying {count} bytes to the GPU"))
    }

    /// Device → host: `count` bytes to `place` on, queued.
    pub fn receive(&mut self, place: usize, from: &Memory, at: usize, count: usize) -> Result<()> {
        self.check(place, count);
        from.check(at, count);
        increment(&self.gpu.counters.copies_out);
        self.gpu.stream.ticket();
        let from = from.address() + at as u64;
        // SAFETY: as for `send`.
        let copied =
            unsafe { sys::cuMemcpyDtoHAsync_v2(self.start.add(place).cast(), from, count, self.gpu.stream.raw()) };
        self.gpu.check(copied, || format!("copying {count} bytes from the GPU"))
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
        if self.gpu.context.hangs() {
            return;
        }
        let Ok(_current) = self.gpu.push() else { return };
        if self.gpu.synchronize().is_err() && self.gpu.context.hangs() {
            return;
        }
        // SAFETY: allocated by us, freed once, and no copy is in flight.
        let _ = unsafe { sys::cuMemFreeHost(self.start.cast()) };
    }
}

impl Gpu {
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
        Ok(Some(Pinned { gpu: Arc::clone(self), start, bytes }))
    }
}
