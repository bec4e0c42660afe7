//! Measuring passes: in what state of the caches, and how often. Between the two events of a measurement nothing waits.

use std::sync::Arc;
use std::time::Instant;

use bytemuck::{Pod, Zeroable};

use super::Cuda;
use super::cublas::{Cublas, Products};
use super::driver::{Event, Function, Gpu, Memory};
use super::graph::Graph;
use super::images::Library;
use super::memory::Weights;
use super::{Product, Record};
use crate::device::Device;
use crate::device::plan::Plan;
use crate::error::Result;

/// Blocks that read the cache full.
const BLOCKS: usize = 1024;
/// How long the clock is watched: the GPU's timer may tick in microseconds.
const WATCHED_NS: u64 = 200_000;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seconds of the same work before: an idle GPU runs at a sixth of its clock.
    pub warm_up: f64,
    pub runs: usize,
}

/// A product's times by NVIDIA's libraries.
#[derive(Clone, Debug)]
pub struct Rival {
    /// By cuBLAS as it chooses: the product alone.
    pub cublas: Vec<f64>,
    /// By the quickest of cuBLASLt's algorithms, with bias, residual and GELU as its epilogue; empty where it has none.
    pub lt: Vec<f64>,
    /// Of how many algorithms.
    pub algorithms: usize,
}

pub struct Kernels {
    evict: Function,
    sm_clock: Function,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct EvictParams {
    from: u64,
    chunks: u64,
    out: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SmClockParams {
    out: u64,
    nanoseconds: u64,
}

impl Kernels {
    pub fn load(library: &Library<'_>) -> Result<Kernels> {
        let module = library.load("bench")?;
        Ok(Kernels {
            evict: module.function::<EvictParams>("evict", 0)?,
            sm_clock: module.function::<SmClockParams>("sm_clock", 0)?,
        })
    }
}

/// Seconds of `queue`, after which the GPU is waited for once.
fn once(gpu: &Gpu, events: &(Event, Event), queue: impl FnOnce() -> Result<()>) -> Result<f64> {
    events.0.record()?;
    queue()?;
    events.1.record()?;
    gpu.synchronize()?;
    events.1.seconds_since(&events.0)
}

/// Seconds of each launch of a graph.
pub(super) fn replayed(gpu: &Arc<Gpu>, graph: &Graph, effort: Effort) -> Result<Vec<f64>> {
    let events = (Event::new(gpu)?, Event::new(gpu)?);
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < effort.warm_up {
        graph.launch()?;
        gpu.synchronize()?;
    }
    (0..effort.runs).map(|_| once(gpu, &events, || graph.launch())).collect()
}

impl Cuda {
    /// Seconds of one pass among `passes` that follow each other in one graph, as operations do in a frame: `forward` is told
    /// which of them it is, so that each may use weights of its own, which no cache has by then. Activations stay cached.
    ///
    /// # Errors
    /// As for [`super::Executor::run`].
    pub fn time_in_graph(
        &mut self,
        plan: &Plan,
        passes: usize,
        effort: Effort,
        forward: &mut (dyn FnMut(&mut dyn Device, usize) + Send),
    ) -> Result<Vec<f64>> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        // What is loaded lazily is loaded by this one.
        self.forward(plan, &mut |d| forward(d, 0))?;
        gpu.synchronize()?;
        let record = std::mem::replace(&mut self.record, Record::Nothing);
        self.is_capturing = true;
        let graph =
            Graph::capture(&gpu, || (0..passes).try_for_each(|pass| self.forward(plan, &mut |d| forward(d, pass))));
        self.is_capturing = false;
        self.record = record;
        let seconds = replayed(&gpu, &graph?, effort)?;
        Ok(seconds.into_iter().map(|seconds| seconds / passes as f64).collect())
    }

    /// Seconds of each of some passes, before each of which the L2 cache is read full of other bytes.
    ///
    /// # Errors
    /// As for [`super::Executor::run`].
    pub fn time_cold(
        &mut self,
        plan: &Plan,
        effort: Effort,
        forward: &mut (dyn FnMut(&mut dyn Device) + Send),
    ) -> Result<Vec<f64>> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        let flush = self.flush_memory()?;
        let events = (Event::new(&gpu)?, Event::new(&gpu)?);
        let mut pass = |cuda: &mut Cuda| {
            cuda.evict(&flush)?;
            once(&gpu, &events, || cuda.forward(plan, forward))
        };
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < effort.warm_up {
            pass(self)?;
        }
        let seconds = (0..effort.runs).map(|_| pass(self)).collect();
        self.flush = Some(flush);
        seconds
    }

    /// The same product by cuBLAS and cuBLASLt, in the state of [`Cuda::time_in_graph`].
    ///
    /// # Errors
    /// A library that is not there, or refuses the product; too little memory.
    pub fn time_rivals(&mut self, product: Product, passes: usize, effort: Effort) -> Result<Rival> {
        self.open_rivals()?;
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        let cublas = self.cublas.take().expect("it was just opened");
        let rival = Products::new(&gpu, product, passes).and_then(|products| products.time(&cublas, effort));
        self.cublas = Some(cublas);
        rival
    }

    /// cuBLAS and cuBLASLt, unless they are open.
    ///
    /// # Errors
    /// A library that is not there, or does not take the GPU.
    pub fn open_rivals(&mut self) -> Result<()> {
        if self.cublas.is_none() {
            let gpu = Arc::clone(&self.gpu);
            let _current = gpu.enter()?;
            self.cublas = Some(Cublas::open(&gpu)?);
        }
        Ok(())
    }

    /// The multiprocessors' clock in MHz, just after what was queued before.
    ///
    /// # Errors
    /// As for a pass.
    pub fn sm_mhz(&mut self) -> Result<f64> {
        let _current = self.gpu.enter()?;
        let told = self.gpu.allocate(16, "watching the clock")?;
        let params = SmClockParams { out: told.address(), nanoseconds: WATCHED_NS };
        self.gpu.launch(&self.kernels.timing.sm_clock, [1, 1, 1], bytemuck::bytes_of(&params))?;
        let mut values = [0u64; 2];
        self.gpu.download(&told, 0, bytemuck::bytes_of_mut(&mut values))?;
        Ok(1e3 * values[0] as f64 / values[1].max(1) as f64)
    }

    /// Gives back all weights. Handles of them are of no use from then on.
    pub fn drop_weights(&mut self) {
        self.passes.forget_all();
        self.weights = Weights::new(Arc::clone(&self.gpu));
    }

    fn evict(&self, flush: &Memory) -> Result<()> {
        let params = EvictParams { from: flush.address(), chunks: flush.bytes() as u64 / 16, out: flush.address() };
        self.gpu.launch(&self.kernels.timing.evict, [BLOCKS as u32, 1, 1], bytemuck::bytes_of(&params))
    }

    /// Three times the cache, so that whatever it evicts first, nothing of the pass before stays.
    fn flush_memory(&mut self) -> Result<Memory> {
        if let Some(memory) = self.flush.take() {
            return Ok(memory);
        }
        let memory = self.gpu.allocate(3 * self.gpu.info().l2_bytes.max(1 << 20), "emptying the cache")?;
        self.gpu.fill(&memory, 0, 0, memory.bytes())?;
        Ok(memory)
    }
}
