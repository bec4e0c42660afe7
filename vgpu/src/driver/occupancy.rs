//! How many blocks fit a multiprocessor: threads, blocks, registers (an estimate: ptxas decides) and shared memory.
//! Rules of the CUDA programming guide's occupancy calculator for compute capability 8.0 to 12.0.

use super::boundary::{Out, SharedOfBlock, shared_of_block};
use super::error::{Code, Outcome, fail};
use super::function::Function;
use super::handle::Handle;
use super::{Machine, driver_functions};
use crate::ir::Kernel;
use crate::profile::Profile;

/// Registers are given out to warps, in units of 256; shared memory to blocks, in units of 128 bytes.
const REGISTER_UNIT: u32 = 256;
const SHARED_UNIT: usize = 128;

impl Profile {
    /// Blocks of `threads` that are on a multiprocessor together; 0 when not even one fits.
    pub fn blocks_per_multiprocessor(&self, kernel: &Kernel, threads: u32, dynamic_shared: usize) -> u32 {
        let warps = threads.div_ceil(32).max(1);
        let by_threads = self.max_threads_per_multiprocessor / (warps * 32);
        // A kernel with a bound on its threads is compiled to fit it.
        let bound = self.registers_per_block / kernel.min_blocks.unwrap_or(1).max(1);
        let most = kernel.max_threads.map_or(u32::MAX, |most| (bound / most.next_multiple_of(32).max(32)) & !7);
        let registers = (kernel.registers.min(most).max(1) * 32).next_multiple_of(REGISTER_UNIT);
        let by_registers = self.registers_per_block / registers / warps;
        let shared = kernel.shared_bytes.saturating_add(dynamic_shared).saturating_add(Profile::SHARED_RESERVED);
        let by_shared = self.shared_per_multiprocessor / shared.next_multiple_of(SHARED_UNIT);
        self.max_blocks_per_multiprocessor.min(by_threads).min(by_registers).min(by_shared as u32)
    }
}

/// What one block of so many threads takes of dynamic shared memory: what the caller's function says, else `fixed`.
fn dynamic_shared_of(asked: Option<SharedOfBlock>, fixed: usize) -> impl Fn(i32) -> usize {
    move |threads| asked.map_or(fixed, |asked| shared_of_block(asked, threads))
}

impl Machine {
    fn blocks(&self, function: Handle<Function>, threads: i32, dynamic_shared: usize) -> Outcome<i32> {
        let function = self.functions.get(function)?;
        let (kernel, profile) = (function.kernel(), &self.device_of(function.context)?.profile);
        let most = kernel.max_threads.unwrap_or(1024).min(1024) as i32;
        if threads <= 0 {
            return fail(Code::INVALID_VALUE, format!("blocks of {threads} threads"));
        }
        if threads > most || dynamic_shared > profile.shared_per_block_optin {
            return Ok(0);
        }
        Ok(profile.blocks_per_multiprocessor(kernel, threads as u32, dynamic_shared) as i32)
    }

    /// The block size with most threads on a multiprocessor, largest first; and the blocks that fill the device.
    fn best_block(&self, function: Handle<Function>, shared: impl Fn(i32) -> usize, limit: i32) -> Outcome<(i32, i32)> {
        let found = self.functions.get(function)?;
        let multiprocessors = self.device_of(found.context)?.profile.multiprocessors as i32;
        let most = found.kernel().max_threads.unwrap_or(1024).min(1024) as i32;
        let most = if limit > 0 { most.min(limit) } else { most };
        let (mut best, mut best_threads) = ((0, 0), 0);
        for threads in (1..=most).rev().filter(|&threads| threads == most || threads % 32 == 0) {
            let blocks = self.blocks(function, threads, shared(threads))?;
            if blocks * threads > best_threads {
                best_threads = blocks * threads;
                best = (blocks * multiprocessors, threads);
            }
        }
        if best_threads == 0 {
            return fail(Code::INVALID_VALUE, "no block size fits a multiprocessor");
        }
        Ok(best)
    }
}

driver_functions! {
    table table;

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        machine,
        blocks: Out<i32>,
        function: Handle<Function>,
        threads: i32,
        dynamic_shared: usize,
    ) {
        blocks.write(machine.blocks(function, threads, dynamic_shared)?)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        machine,
        blocks: Out<i32>,
        function: Handle<Function>,
        threads: i32,
        dynamic_shared: usize,
        _flags: u32,
    ) {
        blocks.write(machine.blocks(function, threads, dynamic_shared)?)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        machine,
        least_grid: Out<i32>,
        threads: Out<i32>,
        function: Handle<Function>,
        shared: Option<SharedOfBlock>,
        dynamic_shared: usize,
        limit: i32,
    ) {
        let (grid, best) = machine.best_block(function, dynamic_shared_of(shared, dynamic_shared), limit)?;
        least_grid.write(grid)?;
        threads.write(best)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        machine,
        least_grid: Out<i32>,
        threads: Out<i32>,
        function: Handle<Function>,
        shared: Option<SharedOfBlock>,
        dynamic_shared: usize,
        limit: i32,
        _flags: u32,
    ) {
        let (grid, best) = machine.best_block(function, dynamic_shared_of(shared, dynamic_shared), limit)?;
        least_grid.write(grid)?;
        threads.write(best)
    }

    /// What `blocks` blocks on one multiprocessor leave for each.
    fn cuOccupancyAvailableDynamicSMemPerBlock(
        machine,
        bytes: Out<usize>,
        function: Handle<Function>,
        blocks: i32,
        threads: i32,
    ) {
        let function = machine.functions.get(function)?;
        let (p, fixed) = (&machine.device_of(function.context)?.profile, function.kernel().shared_bytes);
        if blocks <= 0 || threads <= 0 {
            return fail(Code::INVALID_VALUE, format!("{blocks} blocks of {threads} threads"));
        }
        let each = p.shared_per_multiprocessor / blocks as usize / SHARED_UNIT * SHARED_UNIT;
        let free = each.saturating_sub(Profile::SHARED_RESERVED).saturating_sub(fixed);
        bytes.write(free.min(p.shared_per_block_optin.saturating_sub(fixed)))
    }
}
