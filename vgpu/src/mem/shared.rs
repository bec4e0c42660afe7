//! A block's shared memory: bytes, which of them are defined, and who touched them since when.
//!
//! Order between warps is kept as vector clocks (FastTrack, Flanagan & Freund 2009): a barrier joins its participants'
//! clocks; an access races with an earlier one of another warp that no barrier put before it.

use super::{BlockMemory, Request, Words};
use crate::counts::Counts;
use crate::fault::BadAccess;
use crate::ir::{AtomOp, Order, Ty};

pub struct SharedMemory {}

impl SharedMemory {
    /// `bytes` of static and dynamic shared memory for a block of `warps`; uninitialised. `early`: cp.async copies when
    /// issued, else when waited for.
    pub fn new(bytes: usize, warps: usize, early: bool) -> SharedMemory {
        let _ = (bytes, warps, early);
        unimplemented!()
    }

    /// As new, for the next block, keeping its allocations.
    pub fn reset(&mut self) {
        unimplemented!()
    }

    pub fn load(
        &mut self,
        warp: usize,
        r: &Request,
        order: Order,
        into: &mut Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let _ = (warp, r, order, into, counts);
        unimplemented!()
    }

    pub fn store(
        &mut self,
        warp: usize,
        r: &Request,
        order: Order,
        from: &Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let _ = (warp, r, order, from, counts);
        unimplemented!()
    }

    #[allow(clippy::too_many_arguments)]
    pub fn atomic(
        &mut self,
        warp: usize,
        r: &Request,
        op: AtomOp,
        ty: Ty,
        b: &Words,
        c: Option<&Words>,
        reverse: bool,
        old: &mut Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let _ = (warp, r, op, ty, b, c, reverse, old, counts);
        unimplemented!()
    }

    /// `count` (1, 2, 4) 8×8 matrices of 16-bit values; lane 8m + r holds the address of row r of matrix m. Word m of
    /// `into` is matrix m's fragment.
    pub fn ldmatrix(
        &mut self,
        warp: usize,
        addresses: &[u64; 32],
        count: usize,
        transpose: bool,
        into: &mut Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let _ = (warp, addresses, count, transpose, into, counts);
        unimplemented!()
    }

    pub fn stmatrix(
        &mut self,
        warp: usize,
        addresses: &[u64; 32],
        count: usize,
        transpose: bool,
        from: &Words,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let _ = (warp, addresses, count, transpose, from, counts);
        unimplemented!()
    }

    /// cp.async of `to.bytes` (4, 8, 16) a lane, of which the first `sizes[lane]` come from global memory and the rest
    /// are zeros.
    #[allow(clippy::too_many_arguments)]
    pub fn cp_async(
        &mut self,
        warp: usize,
        to: &Request,
        from: &[u64; 32],
        sizes: &[u32; 32],
        global: &BlockMemory<'_>,
        counts: &mut Counts,
    ) -> Result<(), BadAccess> {
        let _ = (warp, to, from, sizes, global, counts);
        unimplemented!()
    }

    /// The lanes of `mask` close their group (it may be empty).
    pub fn commit(&mut self, warp: usize, mask: u32) {
        let _ = (warp, mask);
        unimplemented!()
    }

    /// The lanes of `mask` wait until at most `pending` of their newest groups are unfinished (`None`: everything, closed
    /// or not).
    pub fn wait(
        &mut self,
        warp: usize,
        mask: u32,
        pending: Option<u32>,
        global: &BlockMemory<'_>,
    ) -> Result<(), BadAccess> {
        let _ = (warp, mask, pending, global);
        unimplemented!()
    }

    /// A barrier completed: those of `arrived` (bit per warp) only signalled, those of `waited` also waited.
    pub fn barrier(&mut self, arrived: u64, waited: u64) {
        let _ = (arrived, waited);
        unimplemented!()
    }

    /// The warp executed a fence of any scope: what it did before is ordered before its next shared atomic.
    pub fn fence(&mut self, warp: usize) {
        let _ = warp;
        unimplemented!()
    }

    /// The lanes of `mask` end: a cp.async of theirs must not be pending.
    pub fn exit(&mut self, warp: usize, mask: u32) -> Result<(), BadAccess> {
        let _ = (warp, mask);
        unimplemented!()
    }
}
