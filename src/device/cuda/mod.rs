//! The CUDA device: float16 storage, float32 accumulation, on kernels of our own (`kernels/`).
//!
//! A plan is compiled into launches (`compile.rs`; one file an operation, named as its kernel file and as its room in `ops`: it
//! chooses the kernel and its grid and fills the kernel's parameter struct), and these are queued or replayed as one graph
//! (`program.rs`). Kernels are resolved when the device is made. Nothing is allocated in a pass.

mod add_positions;
pub(crate) mod arch;
mod argmax;
mod attention;
mod clock;
mod codes;
mod compile;
mod conv;
mod conv_transpose;
mod driver;
mod embed_tokens;
mod epilogue;
mod gemm;
mod graph;
mod layer_norm;
mod max_pool;
mod memory;
mod modules;
mod overlay;
mod patchify;
mod program;
mod regularise;
mod sample;
mod scores;
mod similarity;
mod softmax_scores;
mod split_k;
mod staging;
mod sys;
mod take_rows;
mod tiles;
mod upsample;
mod upsample_scores;

#[cfg(feature = "bench")]
mod counters;
#[cfg(feature = "bench")]
mod cublas;
#[cfg(feature = "bench")]
mod cublas_sys;
#[cfg(feature = "bench")]
mod probe;

use std::sync::Arc;

use half::f16;

pub use self::attention::choices as queries;
use self::clock::Clock;
use self::compile::{Assembler, Refused};
pub use self::compile::{Forced, Launch, Launches, Target, compile};
#[cfg(feature = "bench")]
pub use self::counters::{Counts, Launched};
#[cfg(feature = "bench")]
pub use self::cublas::LibraryGemm;
use self::driver::{Gpu, unusable};
pub use self::driver::{Image, Info, Waiting, file as driver_file};
#[cfg(feature = "bench")]
pub use self::driver::{count, info, set_virtual_devices};
use self::memory::{Arena, Weights};
use self::modules::Library;
pub use self::modules::{EmbeddedModule, Kernel, KernelId, LoadedModule, MODULES, Packed, Spec};
#[cfg(feature = "bench")]
pub use self::probe::{Effort, Record, Rival};
pub use self::program::GpuProgram;
use self::split_k::SplitKMemory;
use self::staging::Staging;
pub use self::tiles::{Config, GpuLimits, MOST_PARTS, Problem, Tile, Tiling, tiles};
use super::{Calls, Device, Program, Times, Upload};
use crate::error::{Error, Result};
use crate::memory::{DeviceMemory, Need};
use crate::ops::{Buf, Matrix, Op, Vector, Weight};
use crate::plan::Plan;

pub struct Cuda {
    gpu: Arc<Gpu>,
    limits: GpuLimits,
    library: Library,
    split_k: SplitKMemory,
    weights: Weights,
    arena: Arena,
    staging: Staging,
    clock: Clock,
    /// Grows when something that launches point at has moved.
    generation: u64,
    /// Nodes of the graph that was launched last.
    nodes: usize,
    /// For trying what the device would not choose.
    forced: Forced,
    #[cfg(feature = "bench")]
    probe: probe::Probe,
}

impl Cuda {
    /// The GPU of this number.
    ///
    /// # Errors
    /// [`Error::Device`]: no driver, no such GPU, one that is in use, a build without kernels, a GPU or driver too old;
    /// [`Error::Memory`].
    pub fn new(ordinal: usize) -> Result<Cuda> {
        Self::open(ordinal, Waiting::default())
    }

    /// As [`Cuda::new`], waited for in this way.
    ///
    /// # Errors
    /// As [`Cuda::new`].
    pub fn open(ordinal: usize, waiting: Waiting) -> Result<Cuda> {
        Self::with(ordinal, waiting, &[])
    }

    fn with(ordinal: usize, waiting: Waiting, replaced: &[(&str, &str)]) -> Result<Cuda> {
        if let Some(reason) = missing() {
            return Err(unusable(&reason));
        }
        let gpu = Gpu::open(ordinal, waiting)?;
        let _current = gpu.enter()?;
        Ok(Cuda {
            limits: GpuLimits::of(gpu.info()),
            library: Library::load(&gpu, replaced)?,
            split_k: SplitKMemory::new(&gpu)?,
            weights: Weights::new(Arc::clone(&gpu)),
            arena: Arena::new(Arc::clone(&gpu)),
            staging: Staging::new(Arc::clone(&gpu)),
            clock: Clock::new(&gpu)?,
            generation: 0,
            nodes: 0,
            forced: Forced::default(),
            #[cfg(feature = "bench")]
            probe: probe::Probe::default(),
            gpu: Arc::clone(&gpu),
        })
    }

    /// The first GPU that works; of virtual ones only if `takes_virtual`.
    ///
    /// # Errors
    /// As [`Cuda::new`]: why the first does not, or what all of them lack.
    pub fn find(takes_virtual: bool, waiting: Waiting) -> Result<Cuda> {
        if let Some(reason) = missing() {
            return Err(unusable(&reason));
        }
        let mut refused = None;
        for ordinal in 0..driver::count()? {
            let found = match driver::info(ordinal) {
                Ok(info) if info.is_virtual && !takes_virtual => {
                    Err(Error::Device("the CUDA device here is a virtual GPU, slow and for tests".to_owned()))
                }
                Ok(_) => Self::open(ordinal, waiting),
                Err(error) => Err(error),
            };
            match found {
                Ok(cuda) => return Ok(cuda),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| unusable("the CUDA driver finds no device")))
    }

    /// Whether this GPU computes a plan; on it nothing is done.
    ///
    /// # Errors
    /// [`Error::Device`]: the first operation that it does not compute, and why.
    pub fn takes(&self, plan: &Plan) -> Result<()> {
        compile(plan, Target::absent(self.limits)).map(drop)
    }

    pub fn info(&self) -> &Info {
        self.gpu.info()
    }

    /// The modules, and as what the GPU has them.
    pub fn modules(&self) -> &[LoadedModule] {
        self.library.modules()
    }

    /// Machine code for this GPU that its driver refused, so that it compiles PTX in its place: other code at another speed.
    pub fn refused(&self) -> Option<String> {
        let described = |module: &LoadedModule| Some(format!("{} ({})", module.module, module.refused.as_ref()?));
        let refused: Vec<String> = self.modules().iter().filter_map(described).collect();
        // The virtual GPU runs PTX alone.
        if refused.is_empty() || self.info().is_virtual {
            return None;
        }
        let (name, refused) = (&self.info().name, refused.join(", "));
        Some(format!("the driver of {name} compiles PTX in the place of machine code that it refuses: {refused}"))
    }
}

/// An operation's launches.
fn launches(op: &Op, to: &mut Assembler<'_>) -> Refused {
    match op {
        Op::Patchify(op) => patchify::compile(op, to),
        Op::AddPositions(op) => add_positions::compile(op, to),
        Op::Gemm(op) => gemm::compile(op, to),
        Op::LayerNorm(op) => layer_norm::compile(op, to),
        Op::Attention(op) => attention::compile(op, to),
        Op::Conv(op) => conv::compile(op, to),
        Op::ConvTranspose(op) => conv_transpose::compile(op, to),
        Op::Upsample(op) => upsample::compile(op, to),
        Op::MaxPool(op) => max_pool::compile(op, to),
        Op::EmbedTokens(op) => embed_tokens::compile(op, to),
        Op::TakeRows(op) => take_rows::compile(op, to),
        Op::Sample(op) => sample::compile(op, to),
        Op::Similarity(op) => similarity::compile(op, to),
        Op::Regularise(op) => regularise::compile(op, to),
        Op::UpsampleScores(op) => upsample_scores::compile(op, to),
        Op::SoftmaxScores(op) => softmax_scores::compile(op, to),
        Op::Argmax(op) => argmax::compile(op, to),
        Op::Overlay(op) => overlay::compile(op, to),
    }
}

/// float16.
const ACTIVATION_BYTES: usize = 2;

/// Bytes that weights take.
pub(crate) fn weight_bytes(weights: &[Weight]) -> u64 {
    memory::weight_bytes(weights) as u64
}

/// What a pass takes: the arena, and page-locked memory of the host.
pub(crate) fn pass_need(plan: &Plan) -> Need {
    Need { device: plan.arena_bytes as u64, host: staging::most_bytes(plan) as u64, ..Need::default() }
}

impl Upload for Cuda {
    fn expect(&mut self, weights: &[Weight]) -> Result<()> {
        self.weights.expect(weights)
    }

    fn largest_weight(&self) -> f32 {
        f16::MAX.to_f32()
    }

    fn matrix(&mut self, n: usize, k: usize, data: &[f32]) -> Result<Matrix> {
        let _current = self.gpu.enter()?;
        Ok(Matrix { index: self.weights.add_matrix(n, k, data)?, n, k })
    }

    fn vector(&mut self, data: &[f32]) -> Result<Vector> {
        let _current = self.gpu.enter()?;
        Ok(Vector { index: self.weights.add_vector(data)?, len: data.len() })
    }

    fn replace_matrix(&mut self, old: Matrix, n: usize, k: usize, data: &[f32]) -> Result<Matrix> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        if self.weights.replace_matrix(old.index, n, k, data)? {
            self.invalidate_addresses();
        }
        Ok(Matrix { index: old.index, n, k })
    }

    fn replace_vector(&mut self, old: Vector, data: &[f32]) -> Result<Vector> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        if self.weights.replace_vector(old.index, data)? {
            self.invalidate_addresses();
        }
        Ok(Vector { index: old.index, len: data.len() })
    }
}

impl Device for Cuda {
    fn describe(&self) -> String {
        let Info { ordinal, name, .. } = self.gpu.info();
        format!("cuda:{ordinal}, {name}")
    }

    fn activation_bytes(&self) -> usize {
        ACTIVATION_BYTES
    }

    fn own_memory(&self) -> Option<DeviceMemory> {
        let Info { name, unified, .. } = self.gpu.info();
        (!unified).then(|| DeviceMemory { name: name.clone(), free: self.gpu.free() })
    }

    fn weight_bytes(&self, weights: &[Weight]) -> u64 {
        weight_bytes(weights)
    }

    fn pass_need(&self, plan: &Plan) -> Need {
        pass_need(plan)
    }

    fn compile(&mut self, plan: Plan) -> Result<Program> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        let mut program = Program { plan, cuda: Some(Box::new(GpuProgram::new(&gpu))) };
        self.link(&mut program)?;
        Ok(program)
    }

    fn run(&mut self, program: &mut Program) -> Result<()> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        self.pass(program).map_err(|error| {
            // Nothing of it stays in flight; what else is wrong, the next call will say.
            let _ = gpu.synchronize();
            error.with(&format!("; it was {}", program.plan.describe()))
        })
    }

    fn write(&mut self, program: &mut Program, buf: Buf, first: usize, bytes: &[u8]) -> Result<()> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        self.link(program)?;
        self.staging.write(&program.plan, self.arena.memory(), program.plan.placed(buf), first, bytes)
    }

    fn read(&mut self, program: &Program, buf: Buf, first: usize, bytes: &mut [u8]) -> Result<()> {
        let _current = self.gpu.enter()?;
        self.staging.read(&program.plan, self.arena.memory(), program.plan.placed(buf), first, bytes)
    }

    fn input_memory(&mut self, program: &mut Program, buf: Buf) -> Result<Option<&mut [u8]>> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        self.link(program)?;
        self.staging.input(&program.plan, buf)
    }

    fn output_memory(&self, program: &Program, buf: Buf) -> Result<Option<&[u8]>> {
        let _current = self.gpu.enter()?;
        self.staging.output(&program.plan, buf)
    }

    fn record_times(&mut self, on: bool) {
        self.clock.set_recording(on);
    }

    fn times(&self) -> Times<'_> {
        self.clock.times()
    }

    #[cfg(feature = "bench")]
    fn clock_mhz(&mut self) -> Result<Option<f64>> {
        self.sm_mhz().map(Some)
    }

    fn calls(&self) -> Calls {
        Calls { graph_nodes: self.nodes, ..self.gpu.calls() }
    }
}

/// What no GPU can make good: this build has no kernels, this machine no driver.
fn missing() -> Option<String> {
    let kernels = MODULES.is_empty().then_some(
        "this build has no CUDA kernels (install CUDA's nvcc, 13.0, name it with LSEG_NVCC where it is not in PATH, and \
         build again)",
    );
    let driver = (!driver::is_present()).then_some("there is no libcuda on this machine (install NVIDIA's driver)");
    let missing: Vec<&str> = kernels.into_iter().chain(driver).collect();
    (!missing.is_empty()).then(|| missing.join(", and "))
}
