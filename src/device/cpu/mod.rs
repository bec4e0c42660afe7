//! The CPU device: float32 on a pool of threads, with the instruction set that the machine has.
//!
//! Every operation cuts its output into disjoint blocks of rows and fills them in parallel. Its file has its name.

mod add_positions;
mod argmax;
mod attention;
mod conv;
mod conv_transpose;
mod embed_tokens;
mod gemm;
mod layer_norm;
mod max_pool;
mod overlay;
mod patchify;
mod regularise;
mod sample;
mod similarity;
mod softmax_scores;
mod take_rows;
mod upsample;
mod upsample_scores;

mod arena;
mod clock;
mod epilogue;
mod half;
mod mask;
mod math;
mod scratch;
mod simd;
mod threads;
mod winograd;

use std::sync::Arc;

use self::arena::Arena;
use self::clock::Clock;
use self::gemm::Packed;
pub use self::simd::Isa;
use self::threads::Threads;
pub use self::threads::make_shared_pool;
use self::winograd::Filters;
use super::{Device, Program, Times, Upload};
use crate::error::{Error, Result};
use crate::memory::Need;
use crate::ops::{self, Buf, Linear, Matrix, Op, Vector, Weight};
use crate::plan::Plan;

pub struct Cpu {
    isa: Isa,
    pool: Arc<rayon::ThreadPool>,
    threads: usize,
    /// Why they are others than were asked for.
    note: Option<String>,
    arena: Arena,
    weights: Weights,
    clock: Clock,
}

#[derive(Default)]
struct Weights {
    matrices: Vec<Stored>,
    vectors: Vec<Vec<f32>>,
}

/// A weight matrix in the layout of the method that uses it.
enum Stored {
    Packed(Packed),
    Winograd(Filters),
}

impl Weights {
    fn store(&mut self, stored: Stored, n: usize, k: usize) -> Matrix {
        self.matrices.push(stored);
        Matrix { index: self.matrices.len() - 1, n, k }
    }

    fn packed(&self, matrix: Matrix) -> &Packed {
        match &self.matrices[matrix.index] {
            Stored::Packed(packed) => packed,
            Stored::Winograd(_) => panic!("the filters of a convolution are used in convolutions alone"),
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

impl Cpu {
    /// `threads`: how many, at most four for each core; or all that the machine offers.
    pub fn new(threads: Option<usize>) -> Result<Cpu> {
        Cpu::with_isa(threads, Isa::detect())
    }

    /// As [`Cpu::new`], with an instruction set of the caller's choice.
    pub fn with_isa(threads: Option<usize>, isa: Isa) -> Result<Cpu> {
        let Threads { count, note } = Threads::of(threads);
        let pool = threads::pool(count, "lseg-cpu").build().map_err(|error| threads::refused(&error))?;
        let (arena, weights, clock) = Default::default();
        Ok(Cpu { isa, pool: Arc::new(pool), threads: count, note, arena, weights, clock })
    }

    /// That there are fewer threads than were asked for.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
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

    fn compute(&mut self, op: &Op) {
        match op {
            Op::Patchify(op) => self.patchify(op),
            Op::AddPositions(op) => self.add_positions(op),
            Op::Gemm(op) => self.gemm(op),
            Op::LayerNorm(op) => self.layer_norm(op),
            Op::Attention(op) => self.attention(op),
            Op::Conv(op) => self.conv(op),
            Op::ConvTranspose(op) => self.conv_transpose(op),
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
            Op::Overlay(op) => self.overlay(op),
        }
    }
}

/// Bytes that weights take at most.
pub(crate) fn weight_bytes(weights: &[Weight]) -> u64 {
    let bytes = |weight: &Weight| match *weight {
        Weight::Matrix { n, k, halves } => Packed::bytes(n, k, halves),
        Weight::Filters(shape) if winograd::suits(shape) => Filters::bytes(shape.outputs, shape.inputs),
        Weight::Filters(shape) => Packed::bytes(shape.outputs, shape.kernel * shape.kernel * shape.inputs, false),
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
        _ => 0,
    });
    works.max().unwrap_or(0)
}

impl Upload for Cpu {
    fn matrix(&mut self, n: usize, k: usize, data: &[f32]) -> Result<Matrix> {
        let packed = self.pool.install(|| Packed::new(n, k, data));
        Ok(self.weights.store(Stored::Packed(packed), n, k))
    }

    fn filters(&mut self, shape: ops::conv::Shape, data: &[f32]) -> Result<Matrix> {
        let (n, k) = (shape.outputs, shape.kernel * shape.kernel * shape.inputs);
        if !winograd::suits(shape) {
            return self.matrix(n, k, data);
        }
        let filters = self.pool.install(|| Filters::new(n, shape.inputs, data));
        Ok(self.weights.store(Stored::Winograd(filters), n, k))
    }

    fn vector(&mut self, data: &[f32]) -> Result<Vector> {
        let index = self.weights.vectors.len();
        self.weights.vectors.push(data.to_vec());
        Ok(Vector { index, len: data.len() })
    }

    fn replace_matrix(&mut self, old: Matrix, n: usize, k: usize, data: &[f32]) -> Result<Matrix> {
        self.weights.matrices[old.index] = Stored::Packed(self.pool.install(|| Packed::new(n, k, data)));
        Ok(Matrix { index: old.index, n, k })
    }

    fn replace_vector(&mut self, old: Vector, data: &[f32]) -> Result<Vector> {
        self.weights.vectors[old.index] = data.to_vec();
        Ok(Vector { index: old.index, len: data.len() })
    }
}

impl Device for Cpu {
    fn describe(&self) -> String {
        format!("cpu, {} thread{}", self.threads, if self.threads == 1 { "" } else { "s" })
    }

    fn activation_bytes(&self) -> usize {
        4
    }

    fn weight_bytes(&self, weights: &[Weight]) -> u64 {
        weight_bytes(weights)
    }

    fn pass_need(&self, plan: &Plan) -> Need {
        pass_need(plan, Some(self.threads))
    }

    fn compile(&mut self, plan: Plan) -> Result<Program> {
        self.reserve(&plan)?;
        let work = work(&plan);
        self.pool.broadcast(|_| {
            scratch::pack(gemm::PACK, |_| ());
            scratch::work(work, |_| ());
        });
        Ok(Program { plan, cuda: None })
    }

    fn run(&mut self, program: &mut Program) -> Result<()> {
        self.reserve(&program.plan)?;
        let steps = &program.plan.steps;
        self.clock.reset(steps.len());
        let pool = Arc::clone(&self.pool);
        pool.install(|| {
            for step in steps {
                self.clock.step(Some(step.stage));
                self.compute(&step.op);
            }
        });
        self.clock.step(None);
        Ok(())
    }

    fn write(&mut self, program: &mut Program, buf: Buf, first: usize, bytes: &[u8]) -> Result<()> {
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

    fn record_times(&mut self, on: bool) {
        self.clock.recording = on;
    }

    fn times(&self) -> Times<'_> {
        self.clock.times()
    }
}
