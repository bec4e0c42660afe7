//! The device that computes nothing: it records what a forward pass does, and from that plans its memory.

mod arena;

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// What a forward pass needs and does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of this recording and its clones alone: passes with one id do the same on the same places.
    pub id: u64,
    pub buffers: Vec<Planned>,
    pub ops: Vec<Op>,
    /// Positions of the buffers that the host fills, and of those that it reads.
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    /// Bytes of the one arena that holds every buffer.
    pub arena_bytes: usize,
    /// float32 values that each CPU thread needs beside the fixed packing blocks.
    pub thread_scratch: usize,
}

/// A buffer, its place and its life.
#[derive(Clone, Debug)]
pub struct Planned {
    pub name: &'static str,
    pub shape: [usize; 4],
    pub element: Element,
    pub bytes: usize,
    /// Bytes from the arena's start.
    pub offset: usize,
    /// The first and the last operation that touch it.
    pub first: usize,
    pub last: usize,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op {
    pub scope: (&'static str, usize),
    pub stage: Stage,
    pub name: &'static str,
    /// "901×1024 · 1024→4096"
    pub shapes: String,
    /// Floating-point operations (a multiply-add counts two), as the network defines them.
    pub flop: u64,
    /// Bytes of activations and weights, each read or written once.
    pub bytes: u64,
}

impl Plan {
    /// What the pass does, in words: "a pass of 3 operations, from patchify … to argmax …".
    pub fn describe(&self) -> String {
        let name = |op: Option<&Op>| op.map_or(String::new(), |op| format!("{} {}", op.name, op.shapes));
        match self.ops.as_slice() {
            [one] => name(Some(one)),
            ops => {
                let (first, last) = (name(ops.first()), name(ops.last()));
                format!("a pass of {} operations, from {first} to {last}", ops.len())
            }
        }
    }

    /// A buffer's handle with its place filled in.
    pub fn placed(&self, buf: Buf) -> Buf {
        Buf { offset: self.buffers[buf.index].offset, ..buf }
    }

    /// Handles of the buffers called `name`, in the order of the pass.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Buf> + 'a {
        self.buffers.iter().enumerate().filter(move |(_, b)| b.name == name).map(|(index, b)| Buf {
            index,
            offset: b.offset,
            shape: b.shape,
            element: b.element,
        })
    }
}

/// Records `forward` for a device whose activations take `activation_bytes` a value. Buffers whose names are in
/// `keep` stay alive to the end, so that they can be read.
pub fn record(activation_bytes: usize, keep: &[&str], forward: impl FnOnce(&mut dyn Device)) -> Plan {
    let mut recorder = Recorder {
        activation_bytes,
        buffers: Vec::new(),
        ops: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        scope: ("", 0),
        stage: Stage::Encoder,
        thread_scratch: 0,
    };
    forward(&mut recorder);
    let Recorder { mut buffers, ops, inputs, outputs, thread_scratch, .. } = recorder;
    let end = ops.len().saturating_sub(1);
    for (index, buffer) in buffers.iter_mut().enumerate() {
        if inputs.contains(&index) {
            buffer.first = 0;
        }
        if outputs.contains(&index) || keep.contains(&buffer.name) {
            buffer.last = end;
        }
    }
    let arena_bytes = arena::place(&mut buffers);
    static RECORDED: AtomicU64 = AtomicU64::new(0);
    let id = RECORDED.fetch_add(1, Ordering::Relaxed);
    Plan { id, buffers, ops, inputs, outputs, arena_bytes, thread_scratch }
}

struct Recorder {
    activation_bytes: usize,
    buffers: Vec<Planned>,
    ops: Vec<Op>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    scope: (&'static str, usize),
    stage: Stage,
    thread_scratch: usize,
}

impl Recorder {
    /// `weights` counts values, `bufs` what is read and written.
    fn op(&mut self, name: &'static str, shapes: String, flop: usize, weights: usize, bufs: &[Buf]) {
        let now = self.ops.len();
        let mut bytes = weights * self.activation_bytes;
        for buf in bufs {
            let buffer = &mut self.buffers[buf.index];
            buffer.first = buffer.first.min(now);
            buffer.last = now;
            bytes += buf.len() * buf.element.bytes(self.activation_bytes);
        }
        self.ops.push(Op {
            scope: self.scope,
            stage: self.stage,
            name,
            shapes,
            flop: flop as u64,
            bytes: bytes as u64,
        });
    }

    fn product(
        &mut self,
        name: &'static str,
        m: usize,
        w: Matrix,
        shapes: String,
        (x, epilogue, out): (Buf, Epilogue, Buf),
    ) {
        let mut bufs = vec![x, out];
        bufs.extend(epilogue.add.iter().flatten().map(|rows| rows.buf));
        self.op(name, shapes, 2 * m * w.n * w.k, w.n * w.k, &bufs);
    }
}

fn map(buf: Buf) -> String {
    let [b, h, w, c] = buf.shape;
    match (b, h) {
        (1, 1) => format!("{w}×{c}"),
        (1, _) => format!("{h}×{w}×{c}"),
        (_, 1) => format!("{b}×{w}×{c}"),
        _ => format!("{b}×{h}×{w}×{c}"),
    }
}

impl Device for Recorder {
    fn buffer(&mut self, name: &'static str, shape: [usize; 4], element: Element) -> Buf {
        let index = self.buffers.len();
        let bytes = shape.iter().product::<usize>() * element.bytes(self.activation_bytes);
        let first = self.ops.len();
        self.buffers.push(Planned { name, shape, element, bytes, offset: 0, first, last: first });
        Buf { index, offset: 0, shape, element }
    }

    fn stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    fn scope(&mut self, name: &'static str, index: usize) {
        self.scope = (name, index);
    }

    fn input(&mut self, buf: Buf) {
        self.inputs.push(buf.index);
    }

    fn output(&mut self, buf: Buf) {
        self.outputs.push(buf.index);
    }

    fn patchify(&mut self, photo: Buf, _: &Normalise, _patch: usize, out: Buf) {
        self.op("patchify", format!("{} → {}", map(photo), map(out)), 8 * out.len(), 0, &[photo, out]);
    }

    fn add_positions(&mut self, _: Vector, positions: Vector, side: usize, grid: (usize, usize), tokens: Buf) {
        let shapes = format!("{side}×{side} → {}×{}, {}", grid.0, grid.1, map(tokens));
        self.op("add_positions", shapes, 8 * tokens.len(), positions.len, &[tokens]);
    }

    fn gemm(&mut self, x: Rows, w: &Linear, epilogue: Epilogue, out: Rows) {
        let m = x.buf.batch() * x.count;
        let shapes = format!("{m}×{} · {}→{}", w.weight.k, w.weight.k, w.weight.n);
        self.product("gemm", m, w.weight, shapes, (x.buf, epilogue, out.buf));
    }

    fn layer_norm(&mut self, x: Buf, _: &LayerNorm, out: Buf) {
        self.op("layer_norm", map(x), 8 * x.len(), 2 * x.channels(), &[x, out]);
    }

    fn attention(&mut self, qkv: Buf, heads: usize, causal: bool, out: Buf) {
        let [b, _, t, width] = out.shape;
        let pairs = if causal { t * (t + 1) / 2 } else { t * t };
        self.thread_scratch = self.thread_scratch.max(cpu::attention_work(width / heads));
        let shapes = format!("{} heads × {t}×{}{}", b * heads, width / heads, if causal { " causal" } else { "" });
        self.op("attention", shapes, 4 * b * pairs * width, 0, &[qkv, out]);
    }

    fn conv(&mut self, x: Buf, w: &Conv, _relu_in: bool, epilogue: Epilogue, out: Buf) {
        let (outputs, inputs) = (w.weight.n, x.channels());
        let shape = ConvShape { outputs, inputs, kernel: w.kernel, stride: w.stride, pad: w.pad };
        self.thread_scratch = self.thread_scratch.max(cpu::conv_work(shape));
        let stride = if w.stride == 1 { String::new() } else { format!(" stride {}", w.stride) };
        let shapes = format!("{0} {1}×{1}{stride} → {2}", map(x), w.kernel, map(out));
        self.product("conv", out.batch() * out.rows(), w.weight, shapes, (x, epilogue, out));
    }

    fn conv_transpose(&mut self, x: Buf, w: &ConvTranspose, out: Buf) {
        let shapes = format!("{0} {1}×{1} stride {1} → {2}", map(x), w.stride, map(out));
        self.product("conv_transpose", x.batch() * x.rows(), w.weight, shapes, (x, Epilogue::NONE, out));
    }

    fn upsample(&mut self, x: Buf, out: Buf) {
        self.op("upsample", format!("{} → {}", map(x), map(out)), 8 * out.len(), 0, &[x, out]);
    }

    fn max_pool(&mut self, x: Buf, out: Buf) {
        self.op("max_pool", format!("{} → {}", map(x), map(out)), 9 * out.len(), 0, &[x, out]);
    }

    fn embed_tokens(&mut self, ids: Buf, _: Matrix, _: Vector, out: Buf) {
        self.op("embed_tokens", map(out), out.len(), 2 * out.len(), &[ids, out]);
    }

    fn take_rows(&mut self, x: Buf, index: Buf, out: Buf) {
        self.op("take_rows", format!("{} → {}", map(x), map(out)), 0, 0, &[x, index, out]);
    }

    fn sample(&mut self, x: Buf, points: Buf, photo: (usize, usize), out: Buf) {
        let shapes = format!("{} at {} points of {}×{}", map(x), points.rows(), photo.0, photo.1);
        // Four pixels of the photo a point, each of up to 4×4 neighbours.
        self.op("sample", shapes, 2 * 64 * out.len(), 0, &[x, points, out]);
    }

    fn similarity(&mut self, x: Buf, w: &Similarity, out: Buf) {
        let (labels, norm) = (w.labels.weight, w.norm.weight);
        let weights = labels.n * labels.k + norm.n * norm.k;
        self.thread_scratch = self.thread_scratch.max(cpu::similarity_work(norm.n));
        let shapes = format!("{} · {} labels, norm {}×{}", map(x), labels.n, norm.n, norm.k);
        self.op("similarity", shapes, 2 * x.batch() * x.rows() * weights, weights, &[x, out]);
    }

    fn regularise(&mut self, x: Buf, _: Vector, bottleneck: bool, _: Option<Activation>, out: Buf) {
        let shapes = format!("{} 3×3 shared{}", map(x), if bottleneck { " + max" } else { "" });
        self.op("regularise", shapes, (18 + usize::from(bottleneck)) * out.len(), 10, &[x, out]);
    }

    fn upsample_scores(&mut self, logits: Buf, out: Buf) {
        self.op("upsample_scores", format!("{} → {}", map(logits), map(out)), 8 * out.len(), 0, &[logits, out]);
    }

    fn argmax(&mut self, logits: Buf, mask: Buf, best: Option<Buf>, not_finite: Buf) {
        self.thread_scratch = self.thread_scratch.max(logits.shape[2] * logits.channels());
        let with = if best.is_some() { " + best" } else { "" };
        let shapes = format!("{} → {}×{}{with}", map(logits), mask.shape[1], mask.shape[2]);
        let bufs: Vec<Buf> = [logits, mask, not_finite].into_iter().chain(best).collect();
        self.op("argmax", shapes, 9 * mask.len() * logits.channels(), 0, &bufs);
    }

    fn overlay(&mut self, photo: Buf, mask: Buf, palette: Buf, out: Buf) {
        let shapes = format!("{}, {} labels", map(photo), palette.rows());
        self.op("overlay", shapes, 0, 0, &[photo, mask, palette, out]);
    }
}
