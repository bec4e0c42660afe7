//! The CUDA device: float16 storage, float32 accumulation, on kernels of our own (`kernels/`).
//!
//! One file an operation, named as its kernel file and as [`Device`]'s method: it chooses the kernel and its grid and
//! fills the kernel's parameter struct. Kernels are resolved when the device is made. Nothing is allocated in a pass; one
//! that comes again is captured into a graph and replayed.

mod add_positions;
mod argmax;
mod attention;
mod clock;
mod conv;
mod counted;
mod cublas;
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
mod take_rows;
mod tiles;
mod upsample;
mod upsample_scores;

use std::cell::RefCell;
use std::sync::Arc;

use bytemuck::NoUninit;

use self::clock::Clock;
pub use self::counted::{Counts, Launch};
pub use self::cublas::Product;
use self::driver::{Function, Gpu, Memory, unusable};
pub use self::driver::{Info, last_fault};
use self::graph::Graph;
use self::images::Library;
pub use self::images::{IMAGES, Images, Packed, Resources};
use self::memory::{Arena, Moved, Weights};
use self::passes::Passes;
use self::staging::Staging;
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
    /// Filled before a measured pass, so that nothing of the pass before is cached.
    flush: Option<Memory>,
    /// What each launch did, where the virtual GPU was asked to tell.
    launches: RefCell<Option<Vec<Launch>>>,
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
            upsample: upsample::Kernels::load(library)?,
            upsample_scores: upsample_scores::Kernels::load(library)?,
        })
    }
}

impl Cuda {
    /// The GPU of this number.
    ///
    /// # Errors
    /// [`Error::Device`]: no driver, no such GPU, a build without kernels, a GPU or driver too old.
    pub fn new(ordinal: usize) -> Result<Cuda> {
        Self::with_ptx(ordinal, &[])
    }

    /// As [`Cuda::new`], with other PTX in the place of some modules (by the names of their files, "gemm"): the same kernels with
    /// the same parameters, such as tests break on purpose.
    ///
    /// # Errors
    /// As [`Cuda::new`]; PTX that the driver refuses.
    pub fn with_ptx(ordinal: usize, replaced: &[(&str, &str)]) -> Result<Cuda> {
        if let Some(reason) = missing() {
            return Err(unusable(&reason));
        }
        let gpu = Gpu::open(ordinal)?;
        let current = gpu.enter()?;
        let (kernels, clock) = (Kernels::load(&Library::new(&gpu, replaced), &gpu)?, Clock::new(&gpu)?);
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
            launches: RefCell::new(None),
            gpu,
        })
    }

    /// The first GPU that works; of virtual ones only if `takes_virtual`.
    ///
    /// # Errors
    /// [`Error::Device`]: why the first does not, or what all of them lack.
    pub fn find(takes_virtual: bool) -> Result<Cuda> {
        if let Some(reason) = missing() {
            return Err(unusable(&reason));
        }
        let mut refused = None;
        for ordinal in 0..driver::count()? {
            let found = match driver::info(ordinal) {
                Ok(info) if info.is_virtual && !takes_virtual => {
                    Err(Error::Device("the CUDA device here is a virtual GPU, slow and for tests".to_owned()))
                }
                Ok(_) => Self::new(ordinal),
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

    /// As [`Executor::run`], operation by operation on an empty L2 cache: the seconds that the GPU took.
    ///
    /// # Errors
    /// As for [`Executor::run`].
    pub fn time(&mut self, plan: &Plan, forward: &mut (dyn FnMut(&mut dyn Device) + Send)) -> Result<f64> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        let flush = self.flush_memory()?;
        gpu.fill(&flush, 0, 0, flush.bytes())?;
        self.flush = Some(flush);
        self.pass(plan, forward, false)?;
        Ok(self.clock.total())
    }

    /// Seconds of each of `runs` products by cuBLAS on an empty L2 cache; `None` where it is not installed.
    ///
    /// # Errors
    /// Too little memory; a product that cuBLAS refuses.
    pub fn time_cublas(&mut self, product: Product, warm_up: usize, runs: usize) -> Result<Option<Vec<f64>>> {
        let Some(cublas) = cublas::Cublas::open(&self.gpu) else { return Ok(None) };
        let flush = self.flush_memory()?;
        let seconds = cublas.time(product, &flush, warm_up, runs);
        self.flush = Some(flush);
        seconds.map(Some)
    }

    /// Twice the cache, so that whatever it evicts first, nothing of the pass before stays.
    fn flush_memory(&mut self) -> Result<Memory> {
        match self.flush.take() {
            Some(memory) => Ok(memory),
            None => self.gpu.allocate(2 * self.gpu.info().l2_bytes.max(1 << 20), "emptying the cache"),
        }
    }

    /// From now on every launch is waited for, and what the virtual GPU counts of it is kept.
    pub fn record_launches(&mut self) {
        self.launches.replace(Some(Vec::new()));
    }

    /// The launches since the last call, in their order: nothing on a real GPU.
    pub fn take_launches(&mut self) -> Vec<Launch> {
        self.launches.get_mut().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Where each operation is timed or counted, no graph is used.
    fn may_replay(&self) -> bool {
        !self.clock.is_recording() && self.launches.borrow().is_none()
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
            let graph = Graph::capture(&gpu, || self.forward(plan, forward));
            self.is_capturing = false;
            self.passes.keep(plan.id, graph?, self.weights.take_used_movable());
        }
        Ok(())
    }

    /// One pass, its outputs and times on the host at the end.
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
                self.forward(plan, forward)?;
                self.passes.ran(plan.id);
            }
        }
        self.clock.finish()?;
        self.staging.receive(self.arena.memory(), plan)?;
        self.gpu.synchronize()?;
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
        let mut failed = self.failed.borrow_mut();
        if failed.is_some() {
            return;
        }
        let launched = match grid.map(u32::try_from) {
            [Ok(x), Ok(y), Ok(z)] => {
                let grid = [x, y, z];
                self.gpu.launch(function, grid, bytemuck::bytes_of(params)).and_then(|()| self.note(function, grid))
            }
            _ => Err(Error::Device(format!(
                "{} would need a grid of {grid:?} blocks; try a smaller size",
                function.name()
            ))),
        };
        *failed = launched.err();
    }

    /// Keeps what the launch just made did, where that is wanted.
    fn note(&self, function: &Function, grid: [u32; 3]) -> Result<()> {
        if let Some(launches) = self.launches.borrow_mut().as_mut() {
            self.gpu.synchronize()?;
            launches.extend(Launch::last(function, grid));
        }
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

    fn argmax(&mut self, logits: Buf, mask: Buf, best: Option<Buf>) {
        self.begin();
        argmax::run(self, logits, mask, best);
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
        self.staging.reserve(plan)
    }

    fn write(&mut self, buf: Buf, first: usize, bytes: &[u8]) -> Result<()> {
        let _current = self.gpu.enter()?;
        self.staging.write(self.arena.memory(), buf.offset + first, bytes)
    }

    fn read(&mut self, buf: Buf, first: usize, bytes: &mut [u8]) -> Result<()> {
        let _current = self.gpu.enter()?;
        self.staging.read(self.arena.memory(), buf.offset + first, bytes)
    }

    fn run(&mut self, plan: &Plan, forward: &mut (dyn FnMut(&mut dyn Device) + Send)) -> Result<()> {
        let gpu = Arc::clone(&self.gpu);
        let _current = gpu.enter()?;
        let may_replay = self.may_replay();
        self.pass(plan, forward, may_replay).map_err(|error| {
            // Nothing of it stays in flight; what else is wrong, the next call will say.
            let _ = gpu.synchronize();
            Error::Device(format!("{error}; it was {}", plan.describe()))
        })
    }

    fn stage_seconds(&self) -> [f64; Stage::ALL.len()] {
        self.clock.stage_seconds()
    }

    fn whole_seconds(&self) -> Option<f64> {
        self.clock.replays().then_some(self.clock.total())
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
