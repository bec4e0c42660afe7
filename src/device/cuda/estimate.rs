//! What a pass costs by the model that tiles are chosen by: enough to compare two ways to the same result, no prediction of times.

use super::ACTIVATION_BYTES;
use super::compile::{Launch, Target, compile};
use super::tiles::GpuLimits;
use crate::plan::Plan;

/// Clocks from one launch of a graph to the next, about: a microsecond and a half.
const LAUNCH: f64 = 2500.0;

/// Clocks of a pass; `None` of one that this GPU does not compute. A product costs what its tiles do, and every operation at least
/// what its bytes take from the second-level cache and its arithmetic on tensor cores: so weights that a batch reads once are counted
/// once.
pub fn clocks(plan: &Plan, gpu: GpuLimits) -> Option<f64> {
    let launches = compile(plan, Target::absent(gpu)).ok()?;
    let cache = gpu.arch.l2_bytes * gpu.multiprocessors as f64;
    let rate = if gpu.warpgroups { gpu.arch.multiply_adds() } else { gpu.arch.mma_sync_multiply_adds() };
    let multiply_adds = rate * gpu.multiprocessors as f64;
    let step = |(i, step): (usize, &crate::plan::Step)| {
        let launches = launches.of_step(i);
        let products: f64 =
            launches.iter().filter_map(|Launch { tiling, .. }| Some(tiling.as_ref()?.clocks(gpu))).sum();
        let bytes = step.op.bytes(ACTIVATION_BYTES) as f64;
        let arithmetic = step.op.flop() as f64 / 2.0 / multiply_adds;
        LAUNCH * launches.len() as f64 + products.max(bytes / cache).max(arithmetic)
    };
    Some(plan.steps.iter().enumerate().map(step).sum())
}
