//! Looking at passes: what each launch was, and how long passes take, in what state of the caches, and how often. Between the two
//! events of a measurement nothing waits.

use std::sync::Arc;
use std::time::Instant;

use bytemuck::{NoUninit, Pod, Zeroable};

use super::compile::{Forced, Launch};
use super::counters::Launched;
use super::cublas::{Cublas, GemmOperands};
use super::driver::{ContextOptions, Event, Memory, Stream};
use super::graph::Graph;
use super::memory::Weights;
use super::modules::{Library, kernels};
use super::program::GpuProgram;
use super::slots::Wait;
use super::{Cuda, LibraryGemm};
use crate::device::Program;
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

/// What is kept of the launches of the passes to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Record {
    #[default]
    Nothing,
    /// What each launch is. Nothing waits.
    Launches,
    /// Also what it did, for which each is waited for; a real GPU does not tell.
    Counts,
}

/// What measuring keeps.
#[derive(Default)]
pub struct Probe {
    record: Record,
    launched: Vec<Launched>,
    /// Read before a measured pass, so that nothing of the pass before is cached.
    flush: Option<Memory>,
    /// Once something was measured against it.
    cublas: Option<Cublas>,
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

impl Probe {
    pub(super) fn is_recording(&self) -> bool {
        self.record != Record::Nothing
    }

    /// Keeps what the launch just made is, and did, where that is wanted. On a real GPU nothing waits: whoever times launches
    /// records them too.
    pub(super) fn note(&mut self, stream: &Stream, library: &Library, launch: &Launch, overlaps: bool) -> Result<()> {
        if !self.is_recording() {
            return Ok(());
        }
        let is_virtual = stream.info().is_virtual;
        let mut launched = Launched::of(launch, library.function(launch.kernel)?, is_virtual, overlaps);
        if self.record == Record::Counts && is_virtual {
            stream.synchronize()?;
            launched = launched.counted();
        }
        self.launched.push(launched);
        Ok(())
    }
}

/// Seconds of `queue`, after which the GPU is waited for once.
fn once(stream: &Stream, events: &(Event, Event), queue: impl FnOnce() -> Result<()>) -> Result<f64> {
    events.0.record()?;
    queue()?;
    events.1.record()?;
    stream.synchronize()?;
    events.1.seconds_since(&events.0)
}

/// Seconds of each launch of a graph.
pub(super) fn replayed(stream: &Arc<Stream>, graph: &Graph, effort: Effort) -> Result<Vec<f64>> {
    let events = (Event::new(stream)?, Event::new(stream)?);
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < effort.warm_up {
        graph.launch()?;
        stream.synchronize()?;
    }
    (0..effort.runs).map(|_| once(stream, &events, || graph.launch())).collect()
}

impl Cuda {
    /// As [`Cuda::new`], with other PTX in the place of some modules (by the names of their files, "gemm"): the same kernels with
    /// the same parameters, such as tests break on purpose.
    ///
    /// # Errors
    /// As [`Cuda::new`]; PTX that the driver refuses.
    pub fn with_ptx(ordinal: usize, replaced: &[(&str, &str)]) -> Result<Cuda> {
        Self::with(ordinal, ContextOptions::default(), replaced)
    }

    /// What is computed how, from now on.
    pub fn force(&mut self, forced: Forced) {
        self.forced = forced;
        self.invalidate_addresses();
    }

    /// Submitted passes do without this wait from now on, so that their results may be wrong.
    ///
    /// # Errors
    /// As for [`Device::submit`](crate::device::Device::submit).
    pub fn omit(&mut self, wait: Option<Wait>) -> Result<()> {
        self.omitted = wait;
        self.slots()?.omitted = wait;
        Ok(())
    }

    /// What is kept of the launches to come. While anything is, no pass is replayed.
    pub fn record(&mut self, record: Record) {
        self.launcher.probe.record = record;
        self.launcher.probe.launched.clear();
    }

    /// The launches since the last call, in their order.
    pub fn take_launches(&mut self) -> Vec<Launched> {
        std::mem::take(&mut self.launcher.probe.launched)
    }

    /// Seconds of one pass among programs that follow each other in one graph, as operations do in a frame: each may use weights
    /// of its own, which no cache has by then. Activations stay cached.
    ///
    /// # Errors
    /// As for [`Device::run`](crate::device::Device::run).
    pub fn time_in_graph(&mut self, programs: &mut [Program], effort: Effort) -> Result<Vec<f64>> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        self.wait_for_slots()?;
        programs.iter_mut().try_for_each(|program| self.link(program))?;
        // What is loaded lazily is loaded by this one.
        self.launcher.queue(&programs[0].plan, GpuProgram::launches(&programs[0]), Some(&mut self.clock))?;
        stream.synchronize()?;
        let record = std::mem::take(&mut self.launcher.probe.record);
        let launcher = &mut self.launcher;
        let mut queue = |(i, program): (usize, &Program)| match i {
            0 => launcher.queue(&program.plan, GpuProgram::launches(program), None),
            _ => launcher.queue_behind(&program.plan, GpuProgram::launches(program)),
        };
        let graph = Graph::capture(&stream, || programs.iter().enumerate().try_for_each(&mut queue));
        self.launcher.probe.record = record;
        let seconds = replayed(&stream, &graph?, effort)?;
        Ok(seconds.into_iter().map(|seconds| seconds / programs.len() as f64).collect())
    }

    /// Seconds of each of some passes, before each of which the L2 cache is read full of other bytes.
    ///
    /// # Errors
    /// As for [`Device::run`](crate::device::Device::run).
    pub fn time_cold(&mut self, program: &mut Program, effort: Effort) -> Result<Vec<f64>> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        self.wait_for_slots()?;
        self.link(program)?;
        let flush = self.flush_memory()?;
        let events = (Event::new(&stream)?, Event::new(&stream)?);
        let mut pass = || {
            self.evict(&flush)?;
            let (plan, launches) = (&program.plan, GpuProgram::launches(program));
            once(&stream, &events, || self.launcher.queue(plan, launches, None))
        };
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < effort.warm_up {
            pass()?;
        }
        let seconds = (0..effort.runs).map(|_| pass()).collect();
        self.launcher.probe.flush = Some(flush);
        seconds
    }

    /// The same product by cuBLAS and cuBLASLt, in the state of [`Cuda::time_in_graph`].
    ///
    /// # Errors
    /// A library that is not there, or refuses the product; too little memory.
    pub fn time_rivals(&mut self, gemm: LibraryGemm, passes: usize, effort: Effort) -> Result<Rival> {
        self.open_rivals()?;
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        let cublas = self.launcher.probe.cublas.take().expect("it was just opened");
        let rival = GemmOperands::new(&stream, gemm, passes).and_then(|operands| operands.time(&cublas, effort));
        self.launcher.probe.cublas = Some(cublas);
        rival
    }

    /// cuBLAS and cuBLASLt, unless they are open.
    ///
    /// # Errors
    /// A library that is not there, or does not take the GPU.
    pub fn open_rivals(&mut self) -> Result<()> {
        if self.launcher.probe.cublas.is_none() {
            let stream = Arc::clone(&self.stream);
            let _current = stream.enter()?;
            self.launcher.probe.cublas = Some(Cublas::open(&stream)?);
        }
        Ok(())
    }

    /// The multiprocessors' clock in MHz, just after what was queued before.
    ///
    /// # Errors
    /// As for a pass.
    pub fn sm_mhz(&mut self) -> Result<f64> {
        let _current = self.stream.enter()?;
        let ticks = self.stream.allocate(16, "watching the clock")?;
        let params = SmClockParams { out: ticks.address(), nanoseconds: WATCHED_NS };
        self.launch("sm_clock", 1, &params)?;
        let mut values = [0u64; 2];
        self.stream.download(&ticks, 0, bytemuck::bytes_of_mut(&mut values))?;
        Ok(1e3 * values[0] as f64 / values[1].max(1) as f64)
    }

    /// Gives back all weights. Handles of them are of no use from then on.
    pub fn drop_weights(&mut self) {
        self.invalidate_addresses();
        self.weights = Weights::new(&self.stream);
    }

    /// Queues a kernel of probe.cu.
    fn launch(&self, name: &str, blocks: u32, params: &impl NoUninit) -> Result<()> {
        let kernel =
            kernels("probe").find(|kernel| kernel.name == name).expect("probe.cu has the kernels of this file");
        self.stream.launch(self.launcher.library.function(kernel)?, [blocks, 1, 1], bytemuck::bytes_of(params), false)
    }

    fn evict(&self, flush: &Memory) -> Result<()> {
        let params = EvictParams { from: flush.address(), chunks: flush.bytes() as u64 / 16, out: flush.address() };
        self.launch("evict", BLOCKS as u32, &params)
    }

    /// Three times the cache, so that whatever it evicts first, nothing of the pass before stays.
    fn flush_memory(&mut self) -> Result<Memory> {
        if let Some(memory) = self.launcher.probe.flush.take() {
            return Ok(memory);
        }
        let memory = self.stream.allocate(3 * self.stream.info().l2_bytes.max(1 << 20), "emptying the cache")?;
        self.stream.fill(&memory, 0, 0, memory.bytes())?;
        Ok(memory)
    }
}
