//! The CUDA device: float16 storage, float32 accumulation, on kernels of our own (`kernels/`).
//!
//! One file an operation, named as its kernel file and as [`Device`]'s method: it chooses the kernel and its grid and
//! fills the kernel's parameter struct. Kernels are resolved when the device is made. Nothing is allocated in a pass; one
//! that comes again is captured into a graph and replayed.

mod add_positions;
mod argmax;
mod attention;
mod clock;
mod codes;
mod conv;
mod counted;
mod cublas;
mod cublas_sys;
mod driver;
mod embed_tokens;
mod gemm;
mod graph;
mod images;
mod layer_norm;
mod max_pool;
mod memory;
mod overlay;
mod passes;
mod patchify;
mod regularise;
mod sample;
mod scores;
mod similarity;
mod staging;
mod sys;
mod take_rows;
mod tiles;
mod timing;
mod upsample;
mod upsample_scores;

use std::cell::RefCell;
use std::sync::Arc;

use bytemuck::NoUninit;
use half::f16;

use self::clock::Clock;
pub use self::counted::{Counts, Launch, Record};
pub use self::cublas::Product;
use self::driver::{Function, Gpu, Memory, unusable};
pub use self::driver::{Image, Info, Waiting, file as driver_file, last_fault};
use self::graph::Graph;
use self::images::Library;
pub use self::images::{IMAGES, Images, LoadedModule, Packed, Resources};
use self::memory::{Arena, Moved, Weights};
use self::passes::Passes;
use self::staging::Staging;
pub use self::tiles::{Choice, MOST_PARTS, Tile};
pub use self::timing::{Effort, Rival};
use super::plan::Plan;
use super::*;
use crate::error::Error;

pub struct Cuda {
    gpu: Arc<Gpu>,
    passes: Passes,
    kernels: Kernels,
    weights: Weights,
    arena: Arena,
    staging: Staging,
    clock: Clock,
    /// Offset and bytes of the running plan's buffers, and how many the pass has asked for.
    places: Vec<(usize, usize)>,
    asked: usize,
    /// The pass is only being captured: nothing in it is timed.
    is_capturing: bool,
    /// What first went wrong in the running pass; the rest of the pass is then skipped.
    failed: RefCell<Option<Error>>,
    /// Read before a measured pass, so that nothing of the pass before is cached.
    flush: Option<Memory>,
    /// Once something was measured against it.
    cublas: Option<cublas::Cublas>,
    record: Record,
    /// What was recorded.
    launches: RefCell<Vec<Launch>>,
    modules: Vec<LoadedModule>,
    /// For trying what the device would not choose.
    forced: Forced,
}

/// Choices that are made for the device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forced {
    /// The tile and parts of products and convolutions that have a kernel for that tile.
    pub choice: Option<Choice>,
    /// Queries of a block of attention: 128 or 64.
    pub queries: Option<usize>,
}

/// Every kernel, by operation.
struct Kernels {
    add_positions: add_positions::Kernels,
    argmax: argmax::Kernels,
    attention: attention::Kernels,
    conv: conv::Kernels,
    embed_tokens: embed_tokens::Kernels,
    gemm: gemm::Kernels,
    layer_norm: layer_norm::Kernels,
    max_pool: max_pool::Kernels,
    overlay: overlay::Kernels,
    patchify: patchify::Kernels,
    regularise: regularise::Kernels,
    sample: sample::Kernels,
    similarity: similarity::Kernels,
    take_rows: take_rows::Kernels,
    timing: timing::Kernels,
    upsample: upsample::Kernels,
    upsample_scores: upsample_scores::Kernels,
}

impl Kernels {
    fn load(library: &Library<'_>, gpu: &Arc<Gpu>) -> Result<Kernels> {
        Ok(Kernels {
            add_positions: add_positions::Kernels::load(library)?,
            argmax: argmax::Kernels::load(library)?,
            attention: attention::Kernels::load(library)?,
            conv: conv::Kernels::load(library, gpu)?,
            embed_tokens: embed_tokens::Kernels::load(library)?,
            gemm: gemm::Kernels::load(library, gpu)?,
            layer_norm: layer_norm::Kernels::load(library)?,
            max_pool: max_pool::Kernels::load(library)?,
            overlay: overlay::Kernels::load(library)?,
            patchify: patchify::Kernels::load(library)?,
            regularise: regularise::Kernels::load(library)?,
            sample: sample::Kernels::load(library)?,
            similarity: similarity::Kernels::load(library)?,
            take_rows: take_rows::Kernels::load(library)?,
            timing: timing::Kernels::load(library)?,
            upsample: upsample::Kernels::load(library)?,
            upsample_scores: upsample_scores::Kernels::load(library)?,
        })
    }
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

    /// As [`Cuda::new`], with other PTX in the place of some modules (by the names of their files, "gemm"): the same kernels with
    /// the same parameters, such as tests break on purpose.
    ///
    /// # Errors
    /// As [`Cuda::new`]; PTX that the driver refuses.
    pub fn with_ptx(ordinal: usize, replaced: &[(&str, &str)]) -> Result<Cuda> {
        Self::with(ordinal, Waiting::default(), replaced)
    }

    fn with(ordinal: usize, waiting: Waiting, replaced: &[(&str, &str)]) -> Result<Cuda> {
        if let Some(reason) = missing() {
            return Err(unusable(&reason));
        }
        let gpu = Gpu::open(ordinal, waiting)?;
        let current = gpu.enter()?;
        let library = Library::new(&gpu, replaced);
        let (kernels, clock) = (Kernels::load(&library, &gpu)?, Clock::new(&gpu)?);
        let modules = library.into_loaded();
        drop(current);
        Ok(Cuda {
            passes: Passes::with_room(),
            kernels,
            weights: Weights::new(Arc::clone(&gpu)),
            arena: Arena::new(Arc::clone(&gpu)),
            staging: Staging::new(Arc::clone(&gpu)),
            clock,
            places: Vec::new(),
            asked: 0,
            is_capturing: false,
            failed: RefCell::new(None),
            flush: None,
            cublas: None,
            record: Record::Nothing,
            launches: RefCell::new(Vec::new()),
            modules,
            forced: Forced::default(),
            gpu,
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

    pub fn info(&self) -> &Info {
        self.gpu.info()
    }

    /// What is kept of the launches to come. While anything is, no pass is replayed.
    pub fn record(&mut self, record: Record) {
        self.record = record;
        self.launches.get_mut().clear();
    }

    /// The launches since the last call, in their order.
    pub fn take_launches(&mut self) -> Vec<Launch> {
        std::mem::take(self.launches.get_mut())
    }

    /// The modules, and as what the GPU has them.
    pub fn modules(&self) -> &[LoadedModule] {
        &self.modules
    }

    /// Machine code for this GPU that its driver refused, so that it compiles PTX in its place: other code at another speed.
    pub fn refused(&self) -> Option<String> {
        let refused: Vec<String> = self
            .modules
            .iter()
            .filter_map(|module| Some(format!("{} ({})", module.module, module.refused.as_ref()?)))
            .collect();
        // The virtual GPU runs PTX alone.
        if refused.is_empty() || self.info().is_virtual {
            return None;
        }
        let name = &self.info().name;
        Some(format!(
            "the driver of {name} compiles PTX in the place of machine code that it refuses: {}",
            refused.join(", ")
        ))
    }

    /// From now on.
    pub fn force(&mut self, forced: Forced) {
        self.forced = forced;
        self.passes.forget_all();
    }

    /// Where each operation is timed or recorded, no graph is used.
    fn may_replay(&self) -> bool {
        !self.clock.is_recording() && self.record == Record::Nothing
    }

    /// Queues the inputs' copies, the operations, the outputs' copies.
    fn forward_with_copies(&mut self, plan: &Plan, forward: &mut (dyn FnMut(&mut dyn Device) + Send)) -> Result<()> {
        self.staging.send(plan, self.arena.memory())?;
        self.forward(plan, forward)?;
        self.staging.receive(plan, self.arena.memory())
    }

    /// Queues the operations one by one.
    fn forward(&mut self, plan: &Plan, forward: &mut (dyn FnMut(&mut dyn Device) + Send)) -> Result<()> {
        self.places.clear();
        self.places.extend(plan.buffers.iter().map(|b| (b.offset, b.bytes)));
        self.asked = 0;
        self.failed.replace(None);
        forward(self);
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Captures a pass that has run before, unless it is captured already.
    fn capture(&mut self, plan: &Plan, forward: &mut (dyn FnMut(&mut dyn Device) + Send)) -> Result<()> {
        if self.passes.graph(plan.id).is_none() && self.passes.has_run(plan.id) {
            let gpu = Arc::clone(&self.gpu);
            self.weights.take_used_movable();
            self.is_capturing = true;
            let graph = Graph::capture(&gpu, || self.forward_with_copies(plan, forward));
            self.is_capturing = false;
            self.passes.keep(plan.id, graph?, self.weights.take_used_movable());
        }
        Ok(())
    }

    /// One pass, from the host's memory to the host's memory, and its times.
    fn pass(&mut self, plan: &Plan, forward: &mut (dyn FnMut(&mut dyn Device) + Send), may_replay: bool) -> Result<()> {
        if may_replay {
            self.capture(plan, forward)?;
        }
        match self.passes.graph(plan.id).filter(|_| may_replay) {
            Some(graph) => {
                self.clock.start(true)?;
                graph.launch()?;
            }
            None => {
                self.clock.start(false)?;
                self.forward_with_copies(plan, forward)?;
                self.passes.ran(plan.id);
            }
        }
        self.clock.finish()?;
        self.gpu.synchronize()?;
        self.staging.ran(plan);
        self.clock.read()
    }

    /// What was captured with a weight's old address is of no use.
    fn forget(&mut self, moved: Moved) {
        match moved {
            Moved::No => {}
            Moved::Own => self.passes.forget_movable(),
            Moved::OutOfBlock => self.passes.forget_all(),
        }
    }

    /// An operation begins.
    fn begin(&mut self) {
        if !self.is_capturing {
            let noted = self.clock.op();
            self.fail_if(noted);
        }
    }

    /// The first failure ends the pass.
    fn fail_if(&self, result: Result<()>) {
        if let Err(error) = result {
            self.failed.borrow_mut().get_or_insert(error);
        }
    }

    /// Where a buffer lies on the GPU.
    fn address(&self, buf: Buf) -> u64 {
        self.arena.memory().address() + buf.offset as u64
    }

    /// Where the rows of the first batch item begin; those of the next are `buf.rows() · buf.channels()` values further.
    fn rows_address(&self, rows: Rows) -> u64 {
        let value = rows.buf.element.bytes(ACTIVATION_BYTES);
        self.address(rows.buf) + (rows.first * rows.buf.channels() * value) as u64
    }

    fn matrix(&self, matrix: Matrix) -> memory::Matrix {
        self.weights.matrix(matrix.index, matrix.k)
    }

    /// 0 where there is none.
    fn optional_vector(&self, vector: Option<Vector>) -> u64 {
        vector.map_or(0, |vector| self.vector(vector))
    }

    fn vector(&self, vector: Vector) -> u64 {
        self.weights.vector(vector.index)
    }

    /// Queues a kernel with its parameter struct. A failure ends the pass.
    fn launch<P: NoUninit>(&self, function: &Function, grid: [usize; 3], params: &P) {
        self.launch_tiled(function, grid, params, None);
    }

    /// The same of a product's kernel, for records.
    fn launch_tiled<P: NoUninit>(&self, function: &Function, grid: [usize; 3], params: &P, choice: Option<Choice>) {
        let mut failed = self.failed.borrow_mut();
        if failed.is_some() {
            return;
        }
        let launched = match grid.map(u32::try_from) {
            [Ok(x), Ok(y), Ok(z)] => {
                let grid = [x, y, z];
                self.gpu
                    .launch(function, grid, bytemuck::bytes_of(params))
                    .and_then(|()| self.note(function, grid, choice))
            }
            _ => Err(Error::Device(format!(
                "{} would need a grid of {grid:?} blocks; try a smaller size",
                function.name()
            ))),
        };
        *failed = launched.err();
    }

    /// Keeps what the launch just made is, and did, where that is wanted. On a real GPU nothing waits: whoever times launches
    /// records them too.
    fn note(&self, function: &Function, grid: [u32; 3], choice: Option<Choice>) -> Result<()> {
        let is_virtual = self.gpu.info().is_virtual;
        let launch = || Launch::of(function, grid, choice, is_virtual);
        let launch = match self.record {
            Record::Nothing => return Ok(()),
            Record::Counts if is_virtual && !self.is_capturing => {
                self.gpu.synchronize()?;
                launch().counted()
            }
            Record::Launches | Record::Counts => launch(),
        };
        self.launches.borrow_mut().push(launch);
        Ok(())
    }
}

/// float16.
const ACTIVATION_BYTES: usize = 2;

impl Device for Cuda {
    fn buffer(&mut self, name: &'static str, shape: [usize; 4], element: Element) -> Buf {
        let index = self.asked;
        self.asked += 1;
        let (offset, bytes) = self.places[index];
        let buf = Buf { index, offset, shape, element };
        assert_eq!(
            buf.len() * element.bytes(ACTIVATION_BYTES),
            bytes,
            "buffer {index}, {name}, is not the planned one"
        );
        buf
    }

    fn stage(&mut self, stage: Stage) {
        if !self.is_capturing {
            let noted = self.clock.stage(stage);
            self.fail_if(noted);
        }
    }

    fn scope(&mut self, _name: &'static str, _index: usize) {}

    fn output(&mut self, _buf: Buf) {}

    fn patchify(&mut self, photo: Buf, normalise: &Normalise, patch: usize, out: Buf) {
        self.begin();
        patchify::run(self, photo, normalise, patch, out);
    }

    fn add_positions(&mut self, class: Vector, positions: Vector, side: usize, grid: (usize, usize), tokens: Buf) {
        self.begin();
        add_positions::run(self, class, positions, side, grid, tokens);
    }

    fn gemm(&mut self, x: Rows, w: &Linear, epilogue: Epilogue, out: Rows) {
        self.begin();
        gemm::run(self, x, w, epilogue, out);
    }

    fn layer_norm(&mut self, x: Buf, w: &LayerNorm, out: Buf) {
        self.begin();
        layer_norm::run(self, x, w, out);
    }

    fn attention(&mut self, qkv: Buf, heads: usize, causal: bool, out: Buf) {
        self.begin();
        attention::run(self, qkv, heads, causal, out);
    }

    fn conv(&mut self, x: Buf, w: &Conv, relu_in: bool, epilogue: Epilogue, out: Buf) {
        self.begin();
        conv::run(self, x, w, relu_in, epilogue, out);
    }

    fn conv_transpose(&mut self, x: Buf, w: &ConvTranspose, out: Buf) {
        self.begin();
        gemm::run_transpose(self, x, w, out);
    }

    fn upsample(&mut self, x: Buf, out: Buf) {
        self.begin();
        upsample::run(self, x, out);
    }

    fn max_pool(&mut self, x: Buf, out: Buf) {
        self.begin();
        max_pool::run(self, x, out);
    }

    fn embed_tokens(&mut self, ids: Buf, table: Matrix, positions: Vector, out: Buf) {
        self.begin();
        embed_tokens::run(self, ids, table, positions, out);
    }

    fn take_rows(&mut self, x: Buf, index: Buf, out: Buf) {
        self.begin();
        take_rows::run(self, x, index, out);
    }

    fn sample(&mut self, x: Buf, points: Buf, photo: (usize, usize), out: Buf) {
        self.begin();
        sample::run(self, x, points, photo, out);
    }

    fn similarity(&mut self, x: Buf, w: &Similarity, out: Buf) {
        self.begin();
        similarity::run(self, x, w, out);
    }

    fn regularise(&mut self, x: Buf, w: Vector, bottleneck: bool, activation: Option<Activation>, out: Buf) {
        self.begin();
        regularise::run(self, x, w, bottleneck, activation, out);
    }

    fn upsample_scores(&mut self, logits: Buf, out: Buf) {
        self.begin();
        upsample_scores::run(self, logits, out);
    }

    fn argmax(&mut self, logits: Buf, mask: Buf, best: Option<Buf>, not_finite: Buf) {
        self.begin();
        argmax::run(self, logits, mask, best, not_finite);
    }

    fn overlay(&mut self, photo: Buf, mask: Buf, palette: Buf, out: Buf) {
        self.begin();
        overlay::run(self, photo, mask, palette, out);
    }
}

impl Upload for Cuda {
    fn expect(&mut self, matrices: &[(usize, usize)], vectors: &[usize]) -> Result<()> {
        self.weights.expect(matrices, vectors)
    }

    fn largest_weight(&self) -> f32 {
        f16::MAX.to_f32()
    }

    fn matrix(&mut self, n: usize, k: usize, data: &[f32]) -> Result<Matrix> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        Ok(Matrix { index: self.weights.add_matrix(n, k, data)?, n, k })
    }

    fn vector(&mut self, data: &[f32]) -> Result<Vector> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        Ok(Vector { index: self.weights.add_vector(data)?, len: data.len() })
    }

    fn replace_matrix(&mut self, old: Matrix, n: usize, k: usize, data: &[f32]) -> Result<Matrix> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        let moved = self.weights.replace_matrix(old.index, n, k, data)?;
        self.forget(moved);
        Ok(Matrix { index: old.index, n, k })
    }

    fn replace_vector(&mut self, old: Vector, data: &[f32]) -> Result<Vector> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        let moved = self.weights.replace_vector(old.index, data)?;
        self.forget(moved);
        Ok(Vector { index: old.index, len: data.len() })
    }
}

impl Executor for Cuda {
    fn describe(&self) -> String {
        let Info { ordinal, name, .. } = self.gpu.info();
        format!("cuda:{ordinal}, {name}")
    }

    fn activation_bytes(&self) -> usize {
        ACTIVATION_BYTES
    }

    fn reserve(&mut self, plan: &Plan) -> Result<()> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        self.places.reserve(plan.buffers.len());
        if !self.arena.holds(plan.arena_bytes) {
            self.passes.forget_all();
            self.arena.grow(plan.arena_bytes)?;
        }
        self.clock.reserve(plan)?;
        if self.staging.reserve(plan)? {
            self.passes.forget_all();
        }
        Ok(())
    }

    fn write(&mut self, plan: &Plan, buf: Buf, first: usize, bytes: &[u8]) -> Result<()> {
        let _current = self.gpu.enter()?;
        self.staging.write(plan, self.arena.memory(), buf, first, bytes)
    }

    fn input_memory(&mut self, plan: &Plan, buf: Buf) -> Result<Option<&mut [u8]>> {
        let _current = self.gpu.enter()?;
        self.staging.input(plan, buf)
    }

    fn output_memory(&self, plan: &Plan, buf: Buf) -> Result<Option<&[u8]>> {
        let _current = self.gpu.enter()?;
        self.staging.output(plan, buf)
    }

    fn read(&mut self, plan: &Plan, buf: Buf, first: usize, bytes: &mut [u8]) -> Result<()> {
        let _current = self.gpu.enter()?;
        self.staging.read(plan, self.arena.memory(), buf, first, bytes)
    }

    fn run(&mut self, plan: &Plan, forward: &mut (dyn FnMut(&mut dyn Device) + Send)) -> Result<()> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        let may_replay = self.may_replay();
        self.pass(plan, forward, may_replay).map_err(|error| {
            // Nothing of it stays in flight; what else is wrong, the next call will say.
            let _ = gpu.synchronize();
            error.with(&format!("; it was {}", plan.describe()))
        })
    }

    fn stage_seconds(&self) -> [f64; Stage::ALL.len()] {
        self.clock.stage_seconds()
    }

    fn whole_seconds(&self) -> Option<f64> {
        self.clock.replays().then_some(self.clock.total())
    }

    fn clock_mhz(&mut self) -> Result<Option<f64>> {
        self.sm_mhz().map(Some)
    }

    fn calls(&self) -> Calls {
        let calls = self.gpu.calls();
        Calls { graph_nodes: if calls.graph_launches == 0 { 0 } else { self.passes.nodes() }, ..calls }
    }

    fn record_times(&mut self, on: bool) {
        self.clock.set_recording(on);
    }

    fn op_seconds(&self) -> &[f64] {
        self.clock.op_seconds()
    }
}

/// What no GPU can make good: this build has no kernels, this machine no driver.
fn missing() -> Option<String> {
    let kernels = IMAGES.is_empty().then_some(
        "this build has no CUDA kernels (install CUDA's nvcc, 13.0, name it with LSEG_NVCC where it is not in PATH, and \
         build again)",
    );
    let driver = (!driver::is_present()).then_some("there is no libcuda on this machine (install NVIDIA's driver)");
    let missing: Vec<&str> = kernels.into_iter().chain(driver).collect();
    (!missing.is_empty()).then(|| missing.join(", and "))
}
