//! Device memory, and copies that wait.

#![allow(unsafe_code)]

use std::sync::Arc;

use super::calls::increment;
use super::context::Context;
use super::out_param;
use super::stream::Stream;
use crate::device::cuda::sys;
use crate::error::Result;

/// Device memory. All streams of the context may use it; whoever lets others see what was queued there orders it.
pub struct Memory {
    context: Arc<Context>,
    address: u64,
    bytes: usize,
}

impl Memory {
    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn check(&self, at: usize, count: usize) {
        assert!(
            at <= self.bytes && count <= self.bytes - at,
            "{count} bytes at {at} of an allocation of {}",
            self.bytes
        );
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Of a lost context nothing is left to free.
        let Some(_current) = self.context.enter_to_free() else { return };
        // A kernel of any stream may still use it.
        self.context.settle();
        if self.context.hangs() {
            return;
        }
        // SAFETY: allocated by us, freed once.
        let _ = unsafe { sys::cuMemFree_v2(self.address) };
    }
}

impl Stream {
    /// Uninitialised device memory.
    ///
    /// # Errors
    /// Out of memory: says how much was asked for, and how much is free.
    pub fn allocate(&self, bytes: usize, what: &str) -> Result<Memory> {
        let _current = self.enter()?;
        increment(&self.counters.allocations);
        // SAFETY: a valid place; freed in drop of Memory.
        let address = out_param(0, |address| unsafe { sys::cuMemAlloc_v2(address, bytes.max(1)) });
        let address = self.check(address, || {
            let (need, free) = ((bytes as u64).div_ceil(1 << 20), self.free().div_ceil(1 << 20));
            format!("{what} needs {need} MiB on {}, which has {free} MiB free", self.info().name)
        })?;
        Ok(Memory { context: Arc::clone(&self.context), address, bytes })
    }

    /// Bytes of the GPU's memory that are free; 0 where the driver does not say.
    pub fn free(&self) -> u64 {
        let Ok(_current) = self.enter() else { return 0 };
        let mut all = 0;
        // SAFETY: two valid places.
        out_param(0, |free| unsafe { sys::cuMemGetInfo_v2(free, &mut all) }).map_or(0, |free| free as u64)
    }

    /// Host → device, behind everything queued; waits.
    pub fn upload(&self, to: &Memory, at: usize, bytes: &[u8]) -> Result<()> {
        to.check(at, bytes.len());
        self.settle()?;
        increment(&self.counters.copies_in);
        let (to, from) = (to.address + at as u64, bytes.as_ptr().cast());
        // SAFETY: in bounds; the copy has ended before the borrow does.
        let copied = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from, bytes.len(), self.queue.raw()) };
        self.check(copied, || format!("copying {} bytes to the GPU", bytes.len()))?;
        self.synchronize_without_limit()
    }

    /// Device → host, behind everything queued; waits.
    pub fn download(&self, from: &Memory, at: usize, bytes: &mut [u8]) -> Result<()> {
        from.check(at, bytes.len());
        self.settle()?;
        increment(&self.counters.copies_out);
        let (to, from) = (bytes.as_mut_ptr().cast(), from.address + at as u64);
        // SAFETY: in bounds; the copy has ended before the borrow does.
        let copied = unsafe { sys::cuMemcpyDtoHAsync_v2(to, from, bytes.len(), self.queue.raw()) };
        self.check(copied, || format!("copying {} bytes from the GPU", bytes.len()))?;
        self.synchronize_without_limit()
    }

    /// Device → device, queued: `count` bytes from `from`, `place` on, to `to`, `at` on. Neither is freed before (drop waits).
    pub fn copy(&self, from: &Memory, place: usize, to: &Memory, at: usize, count: usize) -> Result<()> {
        from.check(place, count);
        to.check(at, count);
        increment(&self.counters.copies_within);
        self.queue.ticket();
        let (to, from) = (to.address + at as u64, from.address + place as u64);
        // SAFETY: in bounds of two allocations of the stream's context.
        let copied = unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, count, self.queue.raw()) };
        self.check(copied, || format!("copying {count} bytes on the GPU"))
    }

    /// Fills bytes, in the order of the stream.
    pub fn fill(&self, memory: &Memory, at: usize, value: u8, count: usize) -> Result<()> {
        memory.check(at, count);
        self.queue.ticket();
        // SAFETY: in bounds.
        let filled = unsafe { sys::cuMemsetD8Async(memory.address + at as u64, value, count, self.queue.raw()) };
        self.check(filled, || format!("filling {count} bytes on the GPU"))
    }
}
