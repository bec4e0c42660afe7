//! The CPU device: float32 on a pool of threads, with the instruction set that the machine has.
//!
//! Every operation cuts its output into disjoint blocks of rows and fills them in parallel. Its file has its name.

mod add_positions;
mod add_window;
mod argmax;
mod attention;
mod conv;
mod cut_windows;
mod embed_tokens;
mod feature_norms;
mod form_features;
mod gemm;
mod gemm_norm;
mod layer_norm;
mod max_pool;
mod merge_scales;
mod overlay;
mod patchify;
mod readout;
mod regularise;
mod resize_features;
mod sample;
mod similarity;
mod softmax_scores;
mod take_rows;
mod to_rgb;
mod upsample;
mod upsample_scores;

mod arena;
mod clock;
mod epilogue;
mod half;
mod mask;
mod math;
mod photo;
mod polyphase;
mod resized;
mod scratch;
mod simd;
mod slots;
pub(super) mod threads;
mod winograd;

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use self::arena::Arena;
use self::clock::Clock;
use self::gemm::Packed;
pub(crate) use self::overlay::tint;
pub use self::simd::Isa;
use self::slots::Slots;
use self::threads::Threads;
pub use self::threads::make_shared_pool;
use self::winograd::Filters;
use super::{Bank, Device, Elsewhere, Program, Times, Upload};
use crate::error::{Error, Result};
use crate::memory::Need;
use crate::ops::{self, Buf, Linear, Matrix, Op, Vector, Weight};
use crate::plan::Plan;

pub struct Cpu {
    isa: Isa,
    workers: Arc<Workers>,
    arena: Arena,
    weights: Weights,
    slots: Slots,
    clock: Clock,
}

/// The threads of a device and its siblings.
struct Workers {
    pool: rayon::ThreadPool,
    threads: usize,
    /// Why they are others than were asked for.
    note: Option<String>,
    /// Passes of siblings follow each other: a thread that waits within one could take the whole of another.
    turn: Mutex<()>,
}

/// Handles point into these lists. A sibling has lists of its own, of the same values.
#[derive(Clone, Default)]
struct Weights {
    matrices: Vec<Arc<Stored>>,
    vectors: Vec<Arc<[f32]>>,
}

/// A bank of labels, packed.
pub struct CpuBank {
    n: usize,
    k: usize,
    rows: Arc<Stored>,
    offsets: Arc<[f32]>,
}

/// A weight matrix in the layout of the method that uses it.
enum Stored {
    Packed(Packed),
    Winograd(Filters),
    /// Of a polyphase convolution, phase by phase.
    Phases(Vec<Packed>),
}

impl Weights {
    fn store(&mut self, stored: Stored, n: usize, k: usize) -> Matrix {
        self.matrices.push(Arc::new(stored));
        Matrix { index: self.matrices.len() - 1, n, k }
    }

    fn packed(&self, matrix: Matrix) -> &Packed {
        match &*self.matrices[matrix.index] {
            Stored::Packed(packed) => packed,
            _ => panic!("the filters of a convolution are used in convolutions alone"),
        }
    }

    fn vector(&self, vector: Vector) -> &[f32] {
        &self.vectors[vector.index]
    }

    fn bias(&self, bias: Option<Vector>) -> Option<&[f32]> {
        bias.map(|bias| self.vector(bias))
    }

    fn linear(&self, w: Linear) -> (&Packed, Option<&[f32]>) {
        (self.packed(w.weight), self.bias(w.bias))
    }
}

impl Workers {
    /// Does work on the threads, when those before have done with theirs. The error is of a thread that cannot be had.
    fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R> {
        // What panicked with it left nothing behind that the next sees.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if rayon::current_thread_index().is_none() {
            return Ok(self.pool.install(work));
        }
        // A thread of another pool does that pool's other work while it waits, which may be a sibling's pass: it would wait for
        // its own turn. A plain thread only waits.
        let done = thread::scope(|scope| {
            let waiting = thread::Builder::new().spawn_scoped(scope, || self.pool.install(work));
            waiting.map(|waiting| waiting.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        done.map_err(|error| threads::refused(&error))
    }
}

impl Cpu {
    /// `threads`: how many, at most four for each core; or all that the machine offers.
    pub fn new(threads: Option<usize>) -> Result<Cpu> {
        Cpu::with_isa(threads, Isa::detect())
    }

    /// As [`Cpu::new`], with an instruction set of the caller's choice.
    pub fn with_isa(threads: Option<usize>, isa: Isa) -> Result<Cpu> {
        let Threads { count, note } = Threads::of(threads);
        let workers = Workers { pool: threads::pool(count)?, threads: count, note, turn: Mutex::new(()) };
        Ok(Cpu::over(isa, Arc::new(workers), Weights::default()))
    }

    fn over(isa: Isa, workers: Arc<Workers>, weights: Weights) -> Cpu {
        let (arena, slots, clock) = Default::default();
        Cpu { isa, workers, arena, weights, slots, clock }
    }

    /// That there are fewer threads than were asked for.
    pub fn note(&self) -> Option<&str> {
        self.workers.note.as_deref()
    }

    /// Room for the arena of this plan, which a larger plan that failed may have taken.
    fn reserve(&mut self, plan: &Plan) -> Result<()> {
        if self.arena.reserve(plan.arena_bytes) {
            return Ok(());
        }
        let mib = plan.arena_bytes.div_ceil(1 << 20);
        let why = "the CPU device cannot get the memory for a frame of this size";
        Err(Error::Memory(format!("{why}: {mib} MiB; try a smaller --size")))
    }

    fn pass(&mut self, plan: &Plan) -> Result<()> {
        self.steps(plan, 0..plan.steps.len())
    }

    fn steps(&mut self, plan: &Plan, steps: Range<usize>) -> Result<()> {
        self.reserve(plan)?;
        self.clock.reset(steps.len());
        let steps = &plan.steps[steps];
        let workers = Arc::clone(&self.workers);
        workers.install(|| {
            for step in steps {
                self.clock.step(Some(step.stage));
                self.compute(&step.op);
            }
        })?;
        self.clock.step(None);
        Ok(())
    }

    fn compute(&mut self, op: &Op) {
        match op {
            Op::Patchify(op) => self.patchify(op),
            Op::AddPositions(op) => self.add_positions(op),
            Op::Gemm(op) => self.gemm(op),
            Op::GemmNorm(op) => self.gemm_norm(op),
            Op::LayerNorm(op) => self.layer_norm(op),
            Op::Attention(op) => self.attention(op),
            Op::Conv(op) => self.conv(op),
            Op::Polyphase(op) => self.polyphase(op),
            Op::Readout(op) => self.readout(op),
            Op::Upsample(op) => self.upsample(op),
            Op::MaxPool(op) => self.max_pool(op),
            Op::EmbedTokens(op) => self.embed_tokens(op),
            Op::TakeRows(op) => self.take_rows(op),
            Op::Sample(op) => self.sample(op),
            Op::Similarity(op) => self.similarity(op),
            Op::Regularise(op) => self.regularise(op),
            Op::UpsampleScores(op) => self.upsample_scores(op),
            Op::SoftmaxScores(op) => self.softmax_scores(op),
            Op::Argmax(op) => self.argmax(op),
            Op::ToRgb(op) => self.to_rgb(op),
            Op::Overlay(op) => self.overlay(op),
            Op::FeatureNorms(op) => self.feature_norms(op),
            Op::ResizeFeatures(op) => self.resize_features(op),
            Op::FormFeatures(op) => self.form_features(op),
            Op::CutWindows(op) => self.cut_windows(op),
            Op::AddWindow(op) => self.add_window(op),
            Op::MergeScales(op) => self.merge_scales(op),
        }
    }
}

/// Bytes that weights take at most.
pub(crate) fn weight_bytes(weights: &[Weight]) -> u64 {
    let bytes = |weight: &Weight| match *weight {
        Weight::Matrix { n, k, halves } => Packed::bytes(n, k, halves),
        Weight::Filters(shape) if winograd::suits(shape) => Filters::bytes(shape.outputs, shape.inputs),
        Weight::Filters(shape) => Packed::bytes(shape.outputs, shape.kernel * shape.kernel * shape.inputs, false),
        Weight::Phases(shape) => {
            let phase = |phase| Packed::bytes(shape.outputs, shape.taps(phase) * shape.inputs, false);
            (0..shape.phases()).map(phase).sum()
        }
        Weight::Vector(len) => 4 * len,
    };
    weights.iter().map(|weight| bytes(weight) as u64).sum()
}

/// What a pass takes on so many threads, or on as many as there are by default: the arena, and each thread's own memory.
pub(crate) fn pass_need(plan: &Plan, threads: Option<usize>) -> Need {
    let threads = threads.unwrap_or_else(|| Threads::of(None).count);
    let scratch = threads * 4 * (gemm::PACK + work(plan));
    Need { device: (plan.arena_bytes + scratch) as u64, ..Need::default() }
}

/// float32 values of working memory that a thread needs for a plan, beside what a product packs.
fn work(plan: &Plan) -> usize {
    let works = plan.steps.iter().map(|step| match &step.op {
        Op::Attention(op) => attention::work(op),
        Op::Conv(op) => conv::work(op),
        Op::Similarity(op) => similarity::work(op),
        Op::Argmax(op) => argmax::work(op),
        Op::FeatureNorms(op) => feature_norms::work(op),
        Op::ResizeFeatures(op) => resize_features::work(op),
        Op::FormFeatures(op) => form_features::work(op),
        Op::AddWindow(op) => add_window::work(op),
        _ => 0,
    });
    works.max().unwrap_or(0)
}

impl Upload for Cpu {
    fn matrix(&mut self, n: usize, k: usize, data: &[f32]) -> Result<Matrix> {
        let packed = self.workers.install(|| Packed::new(n, k, data))?;
        Ok(self.weights.store(Stored::Packed(packed), n, k))
    }

    fn filters(&mut self, shape: ops::conv::Shape, data: &[f32]) -> Result<Matrix> {
        let (n, k) = (shape.outputs, shape.kernel * shape.kernel * shape.inputs);
        if !winograd::suits(shape) {
            return self.matrix(n, k, data);
        }
        let filters = self.workers.install(|| Filters::new(n, shape.inputs, data))?;
        Ok(self.weights.store(Stored::Winograd(filters), n, k))
    }

    fn phases(&mut self, shape: ops::polyphase::Shape, data: &[f32]) -> Result<Matrix> {
        let packed =
            |(phase, filters): (usize, _)| Packed::new(shape.outputs, shape.taps(phase) * shape.inputs, filters);
        let phases = self.workers.install(|| shape.cut(data).enumerate().map(packed).collect())?;
        let (n, k) = shape.size();
        Ok(self.weights.store(Stored::Phases(phases), n, k))
    }

    fn in_parallel(&self, work: &mut (dyn FnMut() + Send)) -> Result<()> {
        self.workers.install(work)
    }

    fn vector(&mut self, data: &[f32]) -> Result<Vector> {
        let index = self.weights.vectors.len();
        self.weights.vectors.push(data.into());
        Ok(Vector { index, len: data.len() })
    }
}

impl Device for Cpu {
    fn describe(&self) -> String {
        format!("cpu, {} thread{}", self.workers.threads, if self.workers.threads == 1 { "" } else { "s" })
    }

    fn activation_bytes(&self) -> usize {
        4
    }

    fn weight_bytes(&self, weights: &[Weight]) -> u64 {
        weight_bytes(weights)
    }

    fn pass_need(&self, plan: &Plan) -> Need {
        pass_need(plan, Some(self.workers.threads))
    }

    fn compile(&mut self, plan: Plan) -> Result<Program> {
        self.complete()?;
        self.reserve(&plan)?;
        let work = work(&plan);
        self.workers.install(|| {
            rayon::broadcast(|_| {
                scratch::pack(gemm::PACK, |_| ());
                scratch::work(work, |_| ());
            });
        })?;
        Ok(Program { plan: Arc::new(plan), cuda: None })
    }

    fn run(&mut self, program: &mut Program) -> Result<()> {
        self.complete()?;
        self.pass(&program.plan)
    }

    fn run_steps(&mut self, program: &mut Program, steps: Range<usize>) -> Result<()> {
        self.complete()?;
        self.steps(&program.plan, steps)
    }

    fn write(&mut self, program: &mut Program, buf: Buf, first: usize, bytes: &[u8]) -> Result<()> {
        self.complete()?;
        self.reserve(&program.plan)?;
        self.arena.bytes_mut(program.plan.placed(buf))[first..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, program: &Program, buf: Buf, first: usize, bytes: &mut [u8]) -> Result<()> {
        bytes.copy_from_slice(&self.arena.bytes(program.plan.placed(buf))[first..][..bytes.len()]);
        Ok(())
    }

    fn input_memory(&mut self, _program: &mut Program, _buf: Buf) -> Result<Option<&mut [u8]>> {
        Ok(None)
    }

    fn output_memory(&self, program: &Program, buf: Buf) -> Result<Option<&[u8]>> {
        Ok(Some(self.arena.bytes(program.plan.placed(buf))))
    }

    fn sibling(&self) -> Result<Box<dyn Device>> {
        Ok(Box::new(Cpu::over(self.isa, Arc::clone(&self.workers), self.weights.clone())))
    }

    fn bank(&self, n: usize, k: usize, rows: &[f32], offsets: &[f32]) -> Result<Bank> {
        let rows = Arc::new(Stored::Packed(self.workers.install(|| Packed::new(n, k, rows))?));
        Ok(Bank::Cpu(CpuBank { n, k, rows, offsets: offsets.into() }))
    }

    fn set_bank(&mut self, old: Option<Linear>, bank: &Bank) -> Result<Linear> {
        let Bank::Cpu(CpuBank { n, k, rows, offsets }) = bank else {
            panic!("a bank is for the device that made it and its siblings")
        };
        self.complete()?;
        let Weights { matrices, vectors } = &mut self.weights;
        let (weight, bias) = match old {
            Some(Linear { weight, bias: Some(bias) }) => (weight.index, bias.index),
            _ => (matrices.len(), vectors.len()),
        };
        put(matrices, weight, Arc::clone(rows));
        put(vectors, bias, Arc::clone(offsets));
        Ok(Linear {
            weight: Matrix { index: weight, n: *n, k: *k },
            bias: Some(Vector { index: bias, len: offsets.len() }),
        })
    }

    fn slot_need(&self, plan: &Plan, _is_left: bool) -> Need {
        slots::need(plan)
    }

    fn slot_input(&mut self, program: &mut Program, _slot: usize, buf: Buf) -> Result<&mut [u8]> {
        self.input_of_slot(&program.plan, buf)
    }

    fn submit(&mut self, program: &mut Program, slot: usize, _elsewhere: &Elsewhere<'_>) -> Result<()> {
        self.wait_in_arena(program.shared_plan(), slot);
        Ok(())
    }

    fn finish(&mut self, slot: usize) -> Result<()> {
        self.finish_slot(slot)
    }

    fn slot_output(&self, plan: &Plan, slot: usize, buf: Buf) -> Result<&[u8]> {
        Ok(self.output_of_slot(plan, slot, buf))
    }

    fn record_times(&mut self, on: bool) {
        self.clock.recording = on;
    }

    fn times(&self) -> Times<'_> {
        self.clock.times()
    }
}

/// At the index, or behind all others.
fn put<T>(list: &mut Vec<T>, index: usize, value: T) {
    match list.get_mut(index) {
        Some(place) => *place = value,
        None => list.push(value),
    }
}
