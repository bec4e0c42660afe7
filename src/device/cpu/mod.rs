//! The CPU device: float32 on a pool of threads, with the instruction set that the machine has.
//!
//! Every operation cuts its output into disjoint blocks of rows and fills them in parallel.

mod arena;
mod attention;
mod half;
mod layer_norm;
mod mask;
mod math;
mod max_pool;
mod overlay;
mod product;
mod regularise;
mod resample;
mod sample;
mod scratch;
mod simd;
mod similarity;
mod threads;
mod winograd;

use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

pub(super) use self::attention::work as attention_work;
pub(super) use self::similarity::work as similarity_work;
pub(super) use self::winograd::work as conv_work;

use self::arena::{Arena, Inputs};
use self::product::{Add, Layout, Packed, Patches, Product};
pub use self::simd::Isa;
use self::threads::Threads;
pub use self::threads::make_shared_pool;
use self::winograd::Filters;
use super::plan::Plan;
use super::*;
use crate::error::Error;

pub struct Cpu {
    isa: Isa,
    pool: Arc<rayon::ThreadPool>,
    threads: usize,
    /// Why they are others than were asked for.
    note: Option<String>,
    arena: Arena,
    weights: Weights,
    /// Offset and bytes of the running plan's buffers, and how many the pass has asked for.
    places: Vec<(usize, usize)>,
    asked: usize,
    clock: Clock,
}

#[derive(Default)]
struct Weights {
    matrices: Vec<Stored>,
    vectors: Vec<Vec<f32>>,
}

/// A weight matrix in the layout of the method that uses it.
enum Stored {
    Product(Packed),
    Winograd(Filters),
}

impl Stored {
    fn product(&self) -> &Packed {
        match self {
            Stored::Product(packed) => packed,
            Stored::Winograd(_) => panic!("the filters of a convolution are used in convolutions alone"),
        }
    }
}

/// Wall time by stage and, where asked for, by operation.
#[derive(Default)]
struct Clock {
    stage: Option<(Stage, Instant)>,
    seconds: [f64; Stage::ALL.len()],
    recording: bool,
    /// When each operation of the pass began.
    begun: Vec<Instant>,
    op_seconds: Vec<f64>,
}

impl Clock {
    fn switch(&mut self, next: Option<Stage>) {
        let now = Instant::now();
        if let Some((stage, since)) = self.stage.take() {
            self.seconds[stage as usize] += now.duration_since(since).as_secs_f64();
        }
        self.stage = next.map(|stage| (stage, now));
    }

    fn start(&mut self) {
        self.seconds = Default::default();
        self.begun.clear();
        self.op_seconds.clear();
    }

    /// An operation begins; it lasts until the next one or the end of the pass.
    fn op(&mut self) {
        if self.recording {
            self.begun.push(Instant::now());
        }
    }

    fn finish(&mut self) {
        self.switch(None);
        let ends = self.begun.iter().skip(1).copied().chain([Instant::now()]);
        self.op_seconds
            .extend(self.begun.iter().zip(ends).map(|(begin, end)| end.duration_since(*begin).as_secs_f64()));
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
        Ok(Cpu {
            isa,
            pool: Arc::new(pool),
            threads: count,
            note,
            arena: Arena::default(),
            weights: Weights::default(),
            places: Vec::new(),
            asked: 0,
            clock: Clock::default(),
        })
    }

    /// That there are fewer threads than were asked for.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// One [`Product`] for every batch item and block of rows. `patches` is the left side but for its values.
    fn products(&mut self, x: Rows, patches: Patches<'_>, op: ProductOp, out: Rows) {
        let (w, bias) =
            (self.weights.matrices[op.weight.index].product(), op.bias.map(|b| &*self.weights.vectors[b.index]));
        let (inputs, out_all) = self.arena.split(out.buf);
        let item = |rows: Rows, b: usize| rows_of(inputs, rows, b);
        let per_task = op.rows_per_task.unwrap_or_else(|| product::rows_per_task(out.count, self.threads));
        let out_per_task = per_task * op.out_per_row;
        let (isa, c) = (self.isa, out.buf.channels());
        out_all.par_chunks_mut(out.buf.rows() * c).enumerate().for_each(|(b, out_item)| {
            let add = op.epilogue.add.map(|add| added(add, |rows| item(rows, b)));
            let x = Patches { x: item(x, b), ..patches };
            let product = Product { x, w, bias, add, func: op.epilogue.func, layout: op.layout };
            let rows = &mut out_item[out.first * c..][..out.count * c];
            rows.par_chunks_mut(out_per_task).enumerate().for_each(|(i, block)| {
                product.block(isa, i * per_task, block.len() / op.out_per_row, block);
            });
        });
    }

    /// A convolution whose weights are Winograd's filters.
    fn winograd(&mut self, x: Buf, w: &Conv, relu: bool, epilogue: Epilogue, out: Buf) {
        let Stored::Winograd(filters) = &self.weights.matrices[w.weight.index] else {
            unreachable!("the caller saw the filters")
        };
        let bias = w.bias.map(|b| &*self.weights.vectors[b.index]);
        let (inputs, out_all) = self.arena.split(out);
        let item = |rows: Rows, b: usize| rows_of(inputs, rows, b);
        let ([_, h, width, n], isa) = (out.shape, self.isa);
        let per_task = winograd::rows_per_task(h, width, self.threads);
        out_all.par_chunks_mut(h * width * n).enumerate().for_each(|(b, out_item)| {
            let add = epilogue.add.map(|add| added(add, |rows| item(rows, b)));
            let conv =
                winograd::Conv { x: item(x.all(), b), h, w: width, relu, filters, bias, add, func: epilogue.func };
            out_item.par_chunks_mut(per_task * width * n).enumerate().for_each(|(i, out)| {
                scratch::work(winograd::WORK, |work| conv.rows(isa, i * per_task, work, out));
            });
        });
    }

    /// `f(batch item, row of the map, its place)` for every row of `out`, where `x` is read.
    fn by_rows(&mut self, x: Buf, out: Buf, f: impl Fn(&[f32], usize, &mut [f32]) + Sync) {
        let (inputs, out_all) = self.arena.split(out);
        let (h, row, x_item) = (out.shape[1], out.shape[2] * out.channels(), x.rows() * x.channels());
        let x_all = inputs.get(x);
        out_all.par_chunks_mut(row).enumerate().for_each(|(i, place)| {
            f(&x_all[i / h * x_item..][..x_item], i % h, place);
        });
    }
}

/// What [`Cpu::products`] needs beside buffers.
struct ProductOp {
    weight: Matrix,
    bias: Option<Vector>,
    epilogue: Epilogue,
    layout: Layout,
    /// Rows of a task where the layout asks for a number of its own.
    rows_per_task: Option<usize>,
    /// Values of the output for one row of the left side.
    out_per_row: usize,
}

/// The rows of one batch item.
fn rows_of<'a>(inputs: Inputs<'a>, rows: Rows, b: usize) -> &'a [f32] {
    let c = rows.buf.channels();
    &inputs.get(rows.buf)[(b * rows.buf.rows() + rows.first) * c..][..rows.count * c]
}

/// What an epilogue adds: a row of its own for every row, or one for all.
fn added<'a>(add: Option<Rows>, item: impl Fn(Rows) -> &'a [f32]) -> Option<Add<'a>> {
    add.map(|rows| if rows.count == 1 { Add::Row(item(rows)) } else { Add::Rows(item(rows)) })
}

impl ProductOp {
    fn rows(weight: Matrix, bias: Option<Vector>, epilogue: Epilogue) -> Self {
        ProductOp { weight, bias, epilogue, layout: Layout::Rows, rows_per_task: None, out_per_row: weight.n }
    }
}

impl Device for Cpu {
    fn buffer(&mut self, name: &'static str, shape: [usize; 4], element: Element) -> Buf {
        let index = self.asked;
        self.asked += 1;
        let (offset, bytes) = self.places[index];
        let buf = Buf { index, offset, shape, element };
        assert_eq!(buf.len() * element.bytes(4), bytes, "buffer {index}, {name}, is not the planned one");
        buf
    }

    fn stage(&mut self, stage: Stage) {
        self.clock.switch(Some(stage));
    }

    fn scope(&mut self, _name: &'static str, _index: usize) {}

    fn output(&mut self, _buf: Buf) {}

    fn patchify(&mut self, photo: Buf, normalise: &Normalise, patch: usize, out: Buf) {
        self.clock.op();
        let (inputs, out_all) = self.arena.split(out);
        let (from, photos) = ((photo.shape[1], photo.shape[2]), inputs.get_u8(photo));
        let (h, row) = (out.shape[1], out.shape[2] * out.channels());
        let size = (h * patch, out.shape[2] * patch);
        out_all.par_chunks_mut(row).enumerate().for_each(|(i, place)| {
            let photo = &photos[i / h * from.0 * from.1 * 3..][..from.0 * from.1 * 3];
            resample::patch_row(photo, from, size, normalise, patch, i % h, place);
        });
    }

    fn add_positions(&mut self, class: Vector, positions: Vector, side: usize, grid: (usize, usize), tokens: Buf) {
        self.clock.op();
        let (class, positions) = (&self.weights.vectors[class.index], &self.weights.vectors[positions.index]);
        let (_, tokens_all) = self.arena.split(tokens);
        tokens_all.par_chunks_mut(tokens.rows() * tokens.channels()).for_each(|item| {
            resample::add_positions(class, positions, side, grid, item);
        });
    }

    fn gemm(&mut self, x: Rows, w: &Linear, epilogue: Epilogue, out: Rows) {
        self.clock.op();
        self.products(x, Patches::rows(&[], x.count, w.weight.k), ProductOp::rows(w.weight, w.bias, epilogue), out);
    }

    fn layer_norm(&mut self, x: Buf, w: &LayerNorm, out: Buf) {
        self.clock.op();
        let (weight, bias) = (&self.weights.vectors[w.weight.index], &self.weights.vectors[w.bias.index]);
        let (inputs, out_all) = self.arena.split(out);
        let (isa, c, eps) = (self.isa, x.channels(), w.eps);
        out_all.par_chunks_mut(c).zip(inputs.get(x).par_chunks(c)).with_min_len(8).for_each(|(out, x)| {
            layer_norm::row(isa, x, weight, bias, eps, out);
        });
    }

    fn attention(&mut self, qkv: Buf, heads: usize, causal: bool, out: Buf) {
        self.clock.op();
        let (inputs, out_all) = self.arena.split(out);
        let (t, width) = (out.rows(), out.channels());
        let d = width / heads;
        let (isa, per_task) = (self.isa, attention::queries_per_task(t, self.threads));
        out_all.par_chunks_mut(t * width).zip(inputs.get(qkv).par_chunks(t * 3 * width)).for_each(|(out, qkv)| {
            out.par_chunks_mut(per_task * width).enumerate().for_each(|(i, out)| {
                let (first, count) = (i * per_task, out.len() / width);
                let block = attention::Block { qkv, heads, d, causal, first, count };
                scratch::work(attention::work(d), |work| block.run(isa, work, out));
            });
        });
    }

    fn conv(&mut self, x: Buf, w: &Conv, relu_in: bool, epilogue: Epilogue, out: Buf) {
        self.clock.op();
        if let Stored::Winograd(_) = self.weights.matrices[w.weight.index] {
            return self.winograd(x, w, relu_in, epilogue, out);
        }
        let [_, h, width, c] = x.shape;
        let (kernel, stride, pad, out_w) = (w.kernel, w.stride, w.pad, out.shape[2]);
        let patches = Patches { x: &[], h, w: width, c, kernel, stride, pad, out_w, relu: relu_in };
        self.products(x.all(), patches, ProductOp::rows(w.weight, w.bias, epilogue), out.all());
    }

    fn conv_transpose(&mut self, x: Buf, w: &ConvTranspose, out: Buf) {
        self.clock.op();
        let (s, width, o) = (w.stride, x.shape[2], out.channels());
        let op = ProductOp {
            weight: w.weight,
            bias: Some(w.bias),
            epilogue: Epilogue::NONE,
            layout: Layout::Shuffle { w: width, s, o },
            // A row of the input is s whole rows of the output.
            rows_per_task: Some(width),
            out_per_row: s * s * o,
        };
        self.products(x.all(), Patches::rows(&[], x.rows(), w.weight.k), op, out.all());
    }

    fn upsample(&mut self, x: Buf, out: Buf) {
        self.clock.op();
        let (isa, [_, h, w, c]) = (self.isa, x.shape);
        self.by_rows(x, out, |x, row, out| resample::upsample_row(isa, x, h, w, c, row, out));
    }

    fn max_pool(&mut self, x: Buf, out: Buf) {
        self.clock.op();
        let (isa, [_, h, w, c]) = (self.isa, x.shape);
        self.by_rows(x, out, |x, row, out| max_pool::row(isa, x, h, w, c, row, out));
    }

    fn embed_tokens(&mut self, ids: Buf, table: Matrix, positions: Vector, out: Buf) {
        self.clock.op();
        let (table, positions) = (self.weights.matrices[table.index].product(), &self.weights.vectors[positions.index]);
        let (inputs, out_all) = self.arena.split(out);
        let (t, width) = (out.rows(), out.channels());
        for (i, (id, out)) in inputs.get_u32(ids).iter().zip(out_all.chunks_exact_mut(width)).enumerate() {
            let (token, position) = (table.row(*id as usize), &positions[i % t * width..][..width]);
            out.iter_mut().zip(token).zip(position).for_each(|((o, a), b)| *o = a + b);
        }
    }

    fn take_rows(&mut self, x: Buf, index: Buf, out: Buf) {
        self.clock.op();
        let (inputs, out_all) = self.arena.split(out);
        let (x_all, t, width) = (inputs.get(x), x.rows(), x.channels());
        for (b, (row, out)) in inputs.get_u32(index).iter().zip(out_all.chunks_exact_mut(width)).enumerate() {
            out.copy_from_slice(&x_all[(b * t + *row as usize) * width..][..width]);
        }
    }

    fn sample(&mut self, x: Buf, points: Buf, photo: (usize, usize), out: Buf) {
        self.clock.op();
        let (inputs, out_all) = self.arena.split(out);
        let (n, [_, h, w, c]) = (points.rows(), x.shape);
        let (x_all, points_all) = (inputs.get(x), inputs.get(points).as_chunks::<2>().0);
        out_all.par_chunks_mut(c).zip(points_all).with_min_len(16).enumerate().for_each(|(i, (out, point))| {
            sample::point(&x_all[i / n * h * w * c..][..h * w * c], (h, w), *point, photo, out);
        });
    }

    fn similarity(&mut self, x: Buf, w: &Similarity, out: Buf) {
        self.clock.op();
        let linear = |l: &Linear| {
            let bias = l.bias.expect("both products of the similarity have a bias");
            (self.weights.matrices[l.weight.index].product(), &*self.weights.vectors[bias.index])
        };
        let weights = similarity::Weights { labels: linear(&w.labels), norm: linear(&w.norm), rest: w.rest };
        let (inputs, out_all) = self.arena.split(out);
        let (isa, pixels) = (self.isa, similarity::PIXELS);
        let x_blocks = inputs.get(x).par_chunks(pixels * x.channels());
        out_all.par_chunks_mut(pixels * out.channels()).zip(x_blocks).for_each(|(out, x)| {
            scratch::work(similarity::work(w.norm.weight.n), |work| similarity::block(isa, &weights, x, work, out));
        });
    }

    fn regularise(&mut self, x: Buf, w: Vector, bottleneck: bool, activation: Option<Activation>, out: Buf) {
        self.clock.op();
        let kernel = &self.weights.vectors[w.index];
        let (inputs, out_all) = self.arena.split(out);
        let (isa, [_, h, width, n], x_all) = (self.isa, x.shape, inputs.get(x));
        out_all.par_chunks_mut(width * n).enumerate().for_each(|(i, out)| {
            let x = &x_all[i / h * h * width * n..][..h * width * n];
            regularise::row(isa, x, (h, width, n), kernel, bottleneck, activation, i % h, out);
        });
    }

    fn upsample_scores(&mut self, logits: Buf, out: Buf) {
        self.clock.op();
        let (inputs, out_all) = self.arena.split(out);
        let (isa, [_, h, w, n], x_all) = (self.isa, logits.shape, inputs.get(logits));
        out_all.par_chunks_mut(2 * w).enumerate().for_each(|(i, out)| {
            let (plane, row) = (i / (2 * h), i % (2 * h));
            let x = &x_all[plane / n * h * w * n..][..h * w * n];
            resample::score_row(isa, x, (h, w, n), plane % n, row, out);
        });
    }

    fn argmax(&mut self, logits: Buf, mask: Buf, best: Option<Buf>, not_finite: Buf) {
        self.clock.op();
        let (inputs, mask_all) = self.arena.split(mask);
        let (isa, [_, h, w, n], x_all) = (self.isa, logits.shape, inputs.get(logits));
        let (to_h, to_w) = (mask.shape[1], mask.shape[2]);
        let rows = mask::rows_mut(mask_all, mask).map(|(i, out)| {
            let x = &x_all[i / to_h * h * w * n..][..h * w * n];
            let mut count = 0;
            scratch::work(w * n, |line| {
                resample::argmax_row(isa, x, (h, w, n), (i % to_h, to_h), line, out, &mut count)
            });
            count
        });
        let count: u32 = rows.sum();
        let (_, place) = self.arena.split(not_finite);
        bytemuck::cast_slice_mut(place)[0] = count;
        let Some(best) = best else { return };
        let (inputs, best_all) = self.arena.split(best);
        let (x_all, masks) = (inputs.get(logits), inputs.labels(mask));
        best_all.par_chunks_mut(to_w).enumerate().for_each(|(i, out)| {
            let x = &x_all[i / to_h * h * w * n..][..h * w * n];
            resample::best_row(x, (h, w, n), (i % to_h, to_h), masks.row(i, to_w), out);
        });
    }

    fn overlay(&mut self, mask: Buf, palette: Buf, photo: Buf) {
        self.clock.op();
        let (inputs, photo_all) = self.arena.split(photo);
        let (masks, palette) = (inputs.labels(mask), inputs.get_u8(palette).as_chunks().0);
        let width = mask.shape[2];
        let pictures = &mut bytemuck::cast_slice_mut::<f32, u8>(photo_all)[..photo.len()];
        let rows = pictures.par_chunks_mut(3 * width).enumerate();
        rows.for_each(|(i, photo)| overlay::row(masks.row(i, width), palette, photo));
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
    let scratch = threads * 4 * (product::PACK + plan.thread_scratch);
    Need { device: (plan.arena_bytes + scratch) as u64, ..Need::default() }
}

impl Upload for Cpu {
    fn matrix(&mut self, n: usize, k: usize, data: &[f32]) -> Result<Matrix> {
        let stored = Stored::Product(self.pool.install(|| Packed::new(n, k, data)));
        self.weights.matrices.push(stored);
        Ok(Matrix { index: self.weights.matrices.len() - 1, n, k })
    }

    fn filters(&mut self, shape: ConvShape, data: &[f32]) -> Result<Matrix> {
        let (n, k) = (shape.outputs, shape.kernel * shape.kernel * shape.inputs);
        if !winograd::suits(shape) {
            return self.matrix(n, k, data);
        }
        let stored = Stored::Winograd(self.pool.install(|| Filters::new(n, shape.inputs, data)));
        self.weights.matrices.push(stored);
        Ok(Matrix { index: self.weights.matrices.len() - 1, n, k })
    }

    fn vector(&mut self, data: &[f32]) -> Result<Vector> {
        let index = self.weights.vectors.len();
        self.weights.vectors.push(data.to_vec());
        Ok(Vector { index, len: data.len() })
    }

    fn replace_matrix(&mut self, old: Matrix, n: usize, k: usize, data: &[f32]) -> Result<Matrix> {
        self.weights.matrices[old.index] = Stored::Product(self.pool.install(|| Packed::new(n, k, data)));
        Ok(Matrix { index: old.index, n, k })
    }

    fn replace_vector(&mut self, old: Vector, data: &[f32]) -> Result<Vector> {
        self.weights.vectors[old.index] = data.to_vec();
        Ok(Vector { index: old.index, len: data.len() })
    }
}

impl Executor for Cpu {
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

    fn reserve(&mut self, plan: &Plan) -> Result<()> {
        if !self.arena.reserve(plan.arena_bytes) {
            let mib = plan.arena_bytes.div_ceil(1 << 20);
            let why = "the CPU device cannot get the memory for a frame of this size";
            return Err(Error::Memory(format!("{why}: {mib} MiB; try a smaller --size")));
        }
        self.places.reserve(plan.buffers.len());
        if self.clock.recording {
            self.clock.begun.reserve(plan.ops.len());
            self.clock.op_seconds.reserve(plan.ops.len());
        }
        let (pack, work) = (product::PACK, plan.thread_scratch);
        self.pool.broadcast(|_| {
            scratch::pack(pack, |_| ());
            scratch::work(work, |_| ());
        });
        Ok(())
    }

    fn write(&mut self, _plan: &Plan, buf: Buf, first: usize, bytes: &[u8]) -> Result<()> {
        let (_, place) = self.arena.split(buf);
        bytemuck::cast_slice_mut::<f32, u8>(place)[first..first + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn input_memory(&mut self, _plan: &Plan, _buf: Buf) -> Result<Option<&mut [u8]>> {
        Ok(None)
    }

    fn output_memory(&self, _plan: &Plan, buf: Buf) -> Result<Option<&[u8]>> {
        Ok(Some(self.arena.bytes(buf)))
    }

    fn read(&mut self, _plan: &Plan, buf: Buf, first: usize, bytes: &mut [u8]) -> Result<()> {
        let (_, place) = self.arena.split(buf);
        bytes.copy_from_slice(&bytemuck::cast_slice::<f32, u8>(place)[first..first + bytes.len()]);
        Ok(())
    }

    fn run(&mut self, plan: &Plan, forward: &mut (dyn FnMut(&mut dyn Device) + Send)) -> Result<()> {
        self.places.clear();
        self.places.extend(plan.buffers.iter().map(|b| (b.offset, b.bytes)));
        self.asked = 0;
        self.clock.start();
        let pool = Arc::clone(&self.pool);
        pool.install(|| forward(self));
        self.clock.finish();
        assert!(!self.clock.recording || self.clock.op_seconds.len() == plan.ops.len(), "every operation was timed");
        Ok(())
    }

    fn stage_seconds(&self) -> [f64; Stage::ALL.len()] {
        self.clock.seconds
    }

    fn record_times(&mut self, on: bool) {
        self.clock.recording = on;
    }

    fn op_seconds(&self) -> &[f64] {
        &self.clock.op_seconds
    }
}
