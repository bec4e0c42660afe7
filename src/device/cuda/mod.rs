//! The CUDA device: float16 storage, float32 accumulation, on kernels of our own (`kernels/`).
//!
//! A plan is compiled into launches (`compile.rs`; one file an operation, named as its kernel file and as its room in `ops`: it
//! chooses the kernel and its grid and fills the kernel's parameter struct), and these are queued or replayed as one graph
//! (`program.rs`). Kernels are resolved when the device is made. Nothing is allocated in a pass.

mod add_positions;
mod add_window;
pub(crate) mod arch;
mod argmax;
mod attention;
mod bank;
mod callers;
mod clock;
mod codes;
mod compile;
mod conv;
mod cut_windows;
mod driver;
mod embed_tokens;
mod epilogue;
mod estimate;
mod feature_norms;
mod form_features;
mod gemm;
mod gemm_norm;
mod graph;
mod host_memory;
mod launcher;
mod layer_norm;
mod max_pool;
mod memory;
mod merge_scales;
mod modules;
mod overlay;
mod patchify;
mod photo;
mod place;
mod polyphase;
mod prefetch;
mod program;
mod readout;
mod regularise;
mod resize_features;
mod resized;
mod sample;
mod scores;
mod similarity;
mod slots;
mod softmax_scores;
mod split_k;
mod staging;
mod steps;
mod sys;
mod take_rows;
mod tiles;
mod to_rgb;
mod upsample;
mod upsample_scores;
mod wgmma;
mod wgmma_attention;
mod wgmma_conv;

#[cfg(feature = "bench")]
mod counters;
#[cfg(feature = "bench")]
mod cublas;
#[cfg(feature = "bench")]
mod cublas_sys;
#[cfg(feature = "bench")]
mod probe;

use std::ops::Range;
use std::sync::Arc;

use half::f16;

pub use self::attention::ways as ways_of_attention;
pub use self::bank::GpuBank;
use self::callers::Callers;
pub use self::callers::Located;
use self::clock::Clock;
use self::compile::{Assembler, Refused};
pub use self::compile::{Forced, Launch, Launches, Target, compile};
#[cfg(feature = "bench")]
pub use self::counters::{Counts, Launched};
#[cfg(feature = "bench")]
pub use self::cublas::LibraryGemm;
use self::driver::{Context, Stream, unusable};
pub use self::driver::{ContextKind, ContextOptions, Image, Info, Waiting, file as driver_file};
#[cfg(feature = "bench")]
pub use self::driver::{count, info, set_virtual_devices};
pub use self::host_memory::{FrameStream, HostMemory};
use self::launcher::Launcher;
use self::memory::{Arena, Weights};
use self::modules::Library;
pub use self::modules::{EmbeddedModule, Kernel, KernelId, LoadedModule, MODULES, Packed, Spec};
pub use self::place::{Done, Place};
#[cfg(feature = "bench")]
pub use self::probe::{Effort, Record, Rival};
pub use self::program::GpuProgram;
use self::slots::Slots;
pub use self::slots::Wait;
use self::split_k::SplitKMemory;
use self::staging::Staging;
pub use self::tiles::{Cluster, Config, Family, GpuLimits, MOST_PARTS, OVERLAP, Problem, Tile, Tiling, configs};
use super::cpu::threads::{self, Threads};
use super::{Bank, Calls, Device, Elsewhere, FrameAllocator, Program, Times, Upload};
use crate::error::{Error, Result};
use crate::memory::{DeviceMemory, Need};
use crate::ops::{Buf, Linear, Matrix, Op, Vector, Weight};
use crate::pixels::{HostRows, Image as Picture};
use crate::plan::Plan;

pub struct Cuda {
    stream: Arc<Stream>,
    limits: GpuLimits,
    launcher: Launcher,
    split_k: SplitKMemory,
    weights: Weights,
    arena: Arena,
    staging: Staging,
    clock: Clock,
    /// Once a pass was submitted.
    slots: Option<Box<Slots>>,
    /// Once an image was taken from somebody else's memory.
    callers: Option<Callers>,
    /// For trying what happens without it.
    #[cfg(feature = "bench")]
    omitted: Option<Wait>,
    /// The slot whose pass is the last that was waited for; none where that was run.
    timed: Option<usize>,
    /// Grows when something that launches point at has moved.
    generation: u64,
    /// Nodes of the graph that was launched last.
    nodes: usize,
    /// Of its edges, those between kernels that may overlap.
    programmatic_edges: usize,
    /// For trying what the device would not choose.
    forced: Forced,
}

impl Cuda {
    /// The GPU of this number.
    ///
    /// # Errors
    /// [`Error::Device`]: no driver, no such GPU, one that is in use, a build without kernels, a GPU or driver too old;
    /// [`Error::Memory`].
    pub fn new(ordinal: usize) -> Result<Cuda> {
        Self::open(ordinal, ContextOptions::default())
    }

    /// As [`Cuda::new`], in such a context.
    ///
    /// # Errors
    /// As [`Cuda::new`].
    pub fn open(ordinal: usize, options: ContextOptions) -> Result<Cuda> {
        Self::with(ordinal, options, &[])
    }

    fn with(ordinal: usize, options: ContextOptions, replaced: &[(&str, &str)]) -> Result<Cuda> {
        if let Some(reason) = missing() {
            return Err(unusable(&reason));
        }
        let stream = Stream::new(&Context::open(ordinal, options)?)?;
        let current = stream.enter()?;
        let library = Arc::new(Library::load(&stream, replaced)?);
        drop(current);
        let weights = Weights::new(&stream);
        Self::on(stream, library, weights)
    }

    /// A device of its own on this stream.
    fn on(stream: Arc<Stream>, library: Arc<Library>, weights: Weights) -> Result<Cuda> {
        let _current = stream.enter()?;
        let limits = GpuLimits::of(stream.info());
        let limits = GpuLimits {
            overlaps: limits.overlaps && library.waits(),
            warpgroups: limits.warpgroups && library.has_warpgroups(),
            ..limits
        };
        Ok(Cuda {
            limits,
            launcher: Launcher::new(&stream, library, limits.overlaps),
            split_k: SplitKMemory::new(&stream)?,
            weights,
            arena: Arena::new(Arc::clone(&stream)),
            staging: Staging::new(Arc::clone(&stream)),
            clock: Clock::new(&stream)?,
            slots: None,
            callers: None,
            #[cfg(feature = "bench")]
            omitted: None,
            timed: None,
            generation: 0,
            nodes: 0,
            programmatic_edges: 0,
            forced: Forced::default(),
            stream: Arc::clone(&stream),
        })
    }

    /// As [`Device::sibling`].
    ///
    /// # Errors
    /// [`Error::Memory`]; a context that is lost.
    pub fn another(&self) -> Result<Cuda> {
        let stream = Stream::new(self.stream.context())?;
        let weights = self.weights.shared(&stream);
        let sibling = Self::on(stream, Arc::clone(&self.launcher.library), weights)?;
        Ok(Cuda { forced: self.forced, ..sibling })
    }

    /// The first GPU that works; of virtual ones only if `takes_virtual`.
    ///
    /// # Errors
    /// As [`Cuda::new`]: why the first does not, or what all of them lack.
    pub fn find(takes_virtual: bool, options: ContextOptions) -> Result<Cuda> {
        if let Some(reason) = missing() {
            return Err(unusable(&reason));
        }
        let mut refused = None;
        for ordinal in 0..driver::count()? {
            let found = match driver::info(ordinal) {
                Ok(info) if info.is_virtual && !takes_virtual => {
                    Err(Error::Device("the CUDA device here is a virtual GPU, slow and for tests".to_owned()))
                }
                Ok(_) => Self::open(ordinal, options),
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

    /// Whether a pass's kernels may begin before the one before has ended, in words: why they do not.
    pub fn overlap(&self) -> &'static str {
        let info = self.info();
        let such_a_gpu = GpuLimits::absent(info.capability, info.multiprocessors);
        if self.limits.overlaps || !such_a_gpu.overlaps {
            such_a_gpu.overlap()
        } else if !info.launches_overlap {
            "launches do not overlap: the driver is older than CUDA 12.3"
        } else {
            "launches do not overlap: this build's kernels for the GPU do not wait for each other"
        }
    }

    /// Which kernels products run on, in words; on a GPU that has warpgroups, why not on these.
    pub fn products(&self) -> &'static str {
        let info = self.info();
        let such_a_gpu = GpuLimits::absent(info.capability, info.multiprocessors);
        if self.limits.warpgroups || !such_a_gpu.warpgroups {
            self.limits.products()
        } else if !info.takes_warpgroups {
            "products: warps (mma.sync), for the driver is older than CUDA 12.0"
        } else {
            "products: warps (mma.sync), for this build has no kernels of sm_90a that the driver takes"
        }
    }

    pub fn info(&self) -> &Info {
        self.stream.info()
    }

    /// What products' kernels are chosen by.
    pub fn limits(&self) -> GpuLimits {
        self.limits
    }

    /// The modules, and as what the GPU has them.
    pub fn modules(&self) -> &[LoadedModule] {
        self.launcher.library.modules()
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
        Op::GemmNorm(op) => gemm_norm::compile(op, to),
        Op::LayerNorm(op) => layer_norm::compile(op, to),
        Op::Attention(op) => attention::compile(op, to),
        Op::Conv(op) => conv::compile(op, to),
        Op::Polyphase(op) => polyphase::compile(op, to),
        Op::Readout(op) => readout::compile(op, to),
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
        Op::ToRgb(op) => to_rgb::compile(op, to),
        Op::Overlay(op) => overlay::compile(op, to),
        Op::FeatureNorms(op) => feature_norms::compile(op, to),
        Op::ResizeFeatures(op) => resize_features::compile(op, to),
        Op::FormFeatures(op) => form_features::compile(op, to),
        Op::CutWindows(op) => cut_windows::compile(op, to),
        Op::AddWindow(op) => add_window::compile(op, to),
        Op::MergeScales(op) => merge_scales::compile(op, to),
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
        let _current = self.stream.enter()?;
        Ok(Matrix { index: self.weights.add_matrix(n, k, data)?, n, k })
    }

    /// On threads for this alone: a GPU has none.
    fn in_parallel(&self, work: &mut (dyn FnMut() + Send)) -> Result<()> {
        threads::pool(Threads::of(None).count)?.install(work);
        Ok(())
    }

    fn vector(&mut self, data: &[f32]) -> Result<Vector> {
        let _current = self.stream.enter()?;
        Ok(Vector { index: self.weights.add_vector(data)?, len: data.len() })
    }
}

impl Device for Cuda {
    fn describe(&self) -> String {
        let Info { ordinal, name, .. } = self.stream.info();
        format!("cuda:{ordinal}, {name}")
    }

    fn activation_bytes(&self) -> usize {
        ACTIVATION_BYTES
    }

    fn own_memory(&self) -> Option<DeviceMemory> {
        let Info { name, unified, .. } = self.stream.info();
        (!unified).then(|| DeviceMemory { name: name.clone(), free: self.stream.free() })
    }

    fn weight_bytes(&self, weights: &[Weight]) -> u64 {
        weight_bytes(weights)
    }

    fn pass_need(&self, plan: &Plan) -> Need {
        pass_need(plan)
    }

    fn compile(&mut self, plan: Plan) -> Result<Program> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        let mut program = Program { plan: Arc::new(plan), cuda: Some(Box::new(GpuProgram::new(&self.stream))) };
        self.link(&mut program)?;
        Ok(program)
    }

    fn run(&mut self, program: &mut Program) -> Result<()> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        self.pass(program).map_err(|error| {
            // Nothing of it stays in flight; what else is wrong, the next call will say.
            let _ = stream.synchronize();
            error.with(&format!("; it was {}", program.plan.describe()))
        })
    }

    fn run_steps(&mut self, program: &mut Program, steps: Range<usize>) -> Result<()> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        self.part(program, steps).map_err(|error| {
            let _ = stream.synchronize();
            error.with(&format!("; it was {}", program.plan.describe()))
        })
    }

    fn write(&mut self, program: &mut Program, buf: Buf, first: usize, bytes: &[u8]) -> Result<()> {
        self.write_rows(program, buf, first, &HostRows::whole(bytes))
    }

    fn write_rows(&mut self, program: &mut Program, buf: Buf, first: usize, rows: &HostRows<'_>) -> Result<()> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        self.wait_for_slots()?;
        self.link(program)?;
        GpuProgram::of(program).1.is_brought = false;
        self.staging.write_rows(&program.plan, self.arena.memory(), program.plan.placed(buf), first, rows)
    }

    fn locate(&self, image: &Picture<'_>) -> Result<Option<Located>> {
        let Some(cuda) = image.in_cuda() else { return Ok(None) };
        let _current = self.stream.enter()?;
        Located::of(image, cuda, &self.stream).map(Some)
    }

    fn write_images(&mut self, program: &mut Program, buf: Buf, images: &[Located]) -> Result<()> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        self.wait_for_slots()?;
        self.link(program)?;
        let brought = self.bring(program.plan.placed(buf), images).inspect_err(|_| {
            // Nothing of it stays in flight; what else is wrong, the next call will say.
            let _ = stream.synchronize();
        });
        GpuProgram::of(program).1.is_brought = brought.is_ok();
        brought
    }

    fn read(&mut self, program: &Program, buf: Buf, first: usize, bytes: &mut [u8]) -> Result<()> {
        let _current = self.stream.enter()?;
        self.staging.read(&program.plan, self.arena.memory(), program.plan.placed(buf), first, bytes)
    }

    fn input_memory(&mut self, program: &mut Program, buf: Buf) -> Result<Option<&mut [u8]>> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        self.link(program)?;
        GpuProgram::of(program).1.is_brought = false;
        self.staging.input(&program.plan, buf)
    }

    fn output_memory(&self, program: &Program, buf: Buf) -> Result<Option<&[u8]>> {
        let _current = self.stream.enter()?;
        self.staging.output(&program.plan, buf)
    }

    fn slot_need(&self, plan: &Plan, is_left: bool) -> Need {
        slots::need(plan, self.stream.info().unified, is_left)
    }

    fn place_need(&self, plan: &Plan) -> Need {
        place::need(plan)
    }

    fn place(&mut self, plan: &Plan) -> Result<Place> {
        let _current = self.stream.enter()?;
        Place::new(&self.stream, plan)
    }

    fn stream_handle(&self) -> Option<u64> {
        Some(self.handle())
    }

    fn estimate(&self, plan: &Plan) -> Option<f64> {
        estimate::clocks(plan, self.limits)
    }

    fn record_times(&mut self, on: bool) {
        self.clock.set_recording(on);
    }

    fn times(&self) -> Times<'_> {
        match (self.timed, &self.slots) {
            (Some(slot), Some(slots)) => slots.times(slot),
            _ => self.clock.times(),
        }
    }

    fn sibling(&self) -> Result<Box<dyn Device>> {
        Ok(Box::new(self.another()?))
    }

    fn bank(&self, n: usize, k: usize, rows: &[f32], offsets: &[f32]) -> Result<Bank> {
        let _current = self.stream.enter()?;
        Ok(Bank::Cuda(GpuBank::new(&self.stream, n, k, rows, offsets)?))
    }

    fn set_bank(&mut self, old: Option<Linear>, bank: &Bank) -> Result<Linear> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        let bank = match bank {
            Bank::Cuda(bank) if bank.is_of(&stream) => bank,
            _ => panic!("a bank is for the device that made it and its siblings"),
        };
        let (linear, has_moved) = self.weights.set_bank(old, bank)?;
        if has_moved {
            self.invalidate_addresses();
        }
        Ok(linear)
    }

    fn slot_input(&mut self, program: &mut Program, slot: usize, buf: Buf) -> Result<&mut [u8]> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        self.link(program)?;
        self.slots()?.input(&program.plan, slot, buf)
    }

    fn submit(&mut self, program: &mut Program, slot: usize, elsewhere: &Elsewhere<'_>) -> Result<()> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        self.submit_pass(program, slot, elsewhere)
            .map_err(|error| error.with(&format!("; it was {}", program.plan.describe())))
    }

    fn frame_allocator(&mut self) -> Result<FrameAllocator> {
        let stream = Arc::clone(&self.stream);
        let _current = stream.enter()?;
        Ok(FrameAllocator::Cuda(self.slots()?.frame_stream()))
    }

    fn is_finished(&self, slot: usize) -> Result<bool> {
        let _current = self.stream.enter()?;
        self.slots.as_ref().expect("a pass was submitted").is_finished(slot)
    }

    fn finish(&mut self, slot: usize) -> Result<()> {
        let stream = Arc::clone(&self.stream);
        match stream.enter() {
            Ok(_current) => self.finish_pass(slot),
            Err(error) => {
                self.abandon_pass(slot);
                Err(error)
            }
        }
    }

    fn slot_output(&self, plan: &Plan, slot: usize, buf: Buf) -> Result<&[u8]> {
        let _current = self.stream.enter()?;
        self.slots.as_ref().expect("a pass was submitted and finished").output(plan, slot, buf)
    }

    #[cfg(feature = "bench")]
    fn clock_mhz(&mut self) -> Result<Option<f64>> {
        self.sm_mhz().map(Some)
    }

    fn calls(&self) -> Calls {
        Calls { graph_nodes: self.nodes, programmatic_edges: self.programmatic_edges, ..self.stream.calls() }
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
