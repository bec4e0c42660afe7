//! The operation set: what a device must be able to do to run the network.
//!
//! The forward pass (`crate::model`) is written once against [`Device`]. Operations are cut where a GPU wants its
//! fusions, so each is one kernel there. Three devices exist in design: [`plan`] computes nothing and records
//! shapes, work and the lives of buffers; [`cpu`] computes in float32 on threads; a CUDA device takes the same calls.
//!
//! Layout: maps are `[batch, height, width, channels]`, channels last; token sequences are `[batch, 1, tokens, width]`.

pub mod cpu;
pub mod cuda;
pub mod plan;

use crate::error::Result;
use crate::model::config::Activation;

/// What one element of a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// The device's own storage type for activations: float32 on the CPU.
    Activation,
    /// float32 on every device: the residual stream of the transformers, logits, results.
    F32,
    U8,
    U16,
    U32,
}

impl Element {
    /// What a mask of so many labels is made of: bytes where they hold every label.
    pub fn of_labels(labels: usize) -> Element {
        if labels <= 256 { Element::U8 } else { Element::U16 }
    }

    /// Bytes of one element where activations take `activation` bytes.
    pub fn bytes(self, activation: usize) -> usize {
        match self {
            Element::Activation => activation,
            Element::F32 | Element::U32 => 4,
            Element::U16 => 2,
            Element::U8 => 1,
        }
    }
}

/// A place in the device's arena. The n-th buffer of a forward pass gets the place the plan gave the n-th buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buf {
    /// Position in the plan's buffer table.
    pub index: usize,
    /// Bytes from the arena's start (0 while planning).
    pub offset: usize,
    /// `[batch, height, width, channels]`.
    pub shape: [usize; 4],
    pub element: Element,
}

impl Buf {
    pub fn batch(&self) -> usize {
        self.shape[0]
    }

    /// Rows (pixels or tokens) of one batch item.
    pub fn rows(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    pub fn channels(&self) -> usize {
        self.shape[3]
    }

    /// Elements, over the whole batch.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows of every batch item.
    pub fn all(self) -> Rows {
        Rows { buf: self, first: 0, count: self.rows() }
    }

    /// The class token of every batch item: row 0.
    pub fn class_row(self) -> Rows {
        Rows { buf: self, first: 0, count: 1 }
    }

    /// The patch tokens of every batch item: rows 1...
    pub fn patch_rows(self) -> Rows {
        Rows { buf: self, first: 1, count: self.rows() - 1 }
    }
}

/// Rows `first .. first + count` of every batch item of a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows {
    pub buf: Buf,
    pub first: usize,
    pub count: usize,
}

/// A weight matrix `[n, k]`, or a large table read by rows (token embedding), that the device keeps in its own layout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matrix {
    pub index: usize,
    pub n: usize,
    pub k: usize,
}

/// A weight vector (bias, LayerNorm weight) or a small table read by rows (positions).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vector {
    pub index: usize,
    pub len: usize,
}

/// y = x·Wᵀ + b.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// `[n, k]`
    pub weight: Matrix,
    /// `[n]`
    pub bias: Option<Vector>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// `[width]`
    pub weight: Vector,
    /// `[width]`
    pub bias: Vector,
    pub eps: f32,
}

/// A square convolution's hyper-parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    pub outputs: usize,
    pub inputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

impl ConvShape {
    /// 3×3, pad 1.
    pub fn three(outputs: usize, inputs: usize, stride: usize) -> Self {
        ConvShape { outputs, inputs, kernel: 3, stride, pad: 1 }
    }

    /// 1×1.
    pub fn one(outputs: usize, inputs: usize, stride: usize) -> Self {
        ConvShape { outputs, inputs, kernel: 1, stride, pad: 0 }
    }
}

/// A square convolution, as a matrix over (ky, kx, input channel).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv {
    /// `[outputs, kernel·kernel·inputs]`
    pub weight: Matrix,
    /// `[outputs]`
    pub bias: Option<Vector>,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

/// A transposed convolution whose stride is its kernel: a product, then a pixel shuffle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvTranspose {
    /// `[stride·stride·outputs, inputs]`, rows ordered (ky, kx, output)
    pub weight: Matrix,
    /// `[stride·stride·outputs]`: the bias repeated for every (ky, kx)
    pub bias: Vector,
    pub stride: usize,
}

/// The label bank and what norms a pixel needs: scores = (A·f + a) / ‖(R·f + c, r)‖ (model: head).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    /// `[labels, features]` and `[labels]`, the logit scale folded in
    pub labels: Linear,
    /// `[rank, features]` and `[rank]`
    pub norm: Linear,
    /// r², the part of the squared norm that no pixel changes
    pub rest: f32,
}

/// Per-channel normalisation of RGB in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Func {
    Identity,
    Relu,
    /// x·Φ(x) by the error function, as PyTorch's default GELU.
    Gelu,
    /// x·σ(1.702 x), CLIP's.
    QuickGelu,
}

/// What happens to a product before it is stored: out = func(product + bias + Σ add).
#[derive(Clone, Copy, Debug)]
pub struct Epilogue {
    /// Rows of the output's shape, or one row per batch item, repeated. Never the output itself.
    pub add: [Option<Rows>; 2],
    pub func: Func,
}

impl Epilogue {
    pub const NONE: Epilogue = Epilogue { add: [None, None], func: Func::Identity };

    pub fn func(func: Func) -> Epilogue {
        Epilogue { add: [None, None], func }
    }

    pub fn add(rows: Rows) -> Epilogue {
        Epilogue { add: [Some(rows), None], func: Func::Identity }
    }

    pub fn and_add(self, rows: Rows) -> Epilogue {
        Epilogue { add: [self.add[0], Some(rows)], func: self.func }
    }

    pub fn then(self, func: Func) -> Epilogue {
        Epilogue { func, ..self }
    }
}

/// The parts of a frame whose times are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Text,
    Encoder,
    Decoder,
    Head,
    Mask,
}

impl Stage {
    pub const ALL: [Stage; 5] = [Stage::Text, Stage::Encoder, Stage::Decoder, Stage::Head, Stage::Mask];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Text => "text tower",
            Stage::Encoder => "image encoder",
            Stage::Decoder => "decoder",
            Stage::Head => "head",
            Stage::Mask => "mask",
        }
    }
}

/// The operations of the network. Every call names its buffers: inputs, weights, then the output.
///
/// Shapes are preconditions: the model derives them all from one configuration, and a device may panic (never
/// corrupt) when they do not fit.
pub trait Device {
    /// The next buffer of this pass.
    fn buffer(&mut self, name: &'static str, shape: [usize; 4], element: Element) -> Buf;

    /// Everything after this belongs to `stage`, for times.
    fn stage(&mut self, stage: Stage);

    /// Everything after this belongs to `name` `index`, for reports.
    fn scope(&mut self, name: &'static str, index: usize);

    /// The host fills `buf` before the pass.
    fn input(&mut self, _buf: Buf) {}

    /// The host reads `buf` after the pass: it must stay alive until the end.
    fn output(&mut self, buf: Buf);

    /// Photo (`U8`, `[b, h0, w0, 3]`) → resized (bilinear, align_corners=False, no antialias) to `out`'s height
    /// and width times `patch`, normalised, cut in patches: `out` is `[b, h, w, patch·patch·3]`. A patch of 1 is the image.
    fn patchify(&mut self, photo: Buf, normalise: &Normalise, patch: usize, out: Buf);

    /// In place on `tokens` `[b, 1, 1 + h·w, d]`: row 0 becomes class token + position 0; the patch rows get the
    /// `side`×`side` position grid, resized to `grid` = (h, w) (bilinear, align_corners=False), added.
    fn add_positions(&mut self, class: Vector, positions: Vector, side: usize, grid: (usize, usize), tokens: Buf);

    /// out = epilogue(x·Wᵀ + b), row by row.
    fn gemm(&mut self, x: Rows, w: &Linear, epilogue: Epilogue, out: Rows);

    /// Over the channels of every row.
    fn layer_norm(&mut self, x: Buf, w: &LayerNorm, out: Buf);

    /// softmax(q·kᵀ·d^-½)·v per head; `qkv` is `[b, 1, t, 3·width]`, `out` `[b, 1, t, width]`.
    fn attention(&mut self, qkv: Buf, heads: usize, causal: bool, out: Buf);

    /// out = epilogue(conv(x) + b), where x passes a ReLU first if `relu_in`.
    fn conv(&mut self, x: Buf, w: &Conv, relu_in: bool, epilogue: Epilogue, out: Buf);

    fn conv_transpose(&mut self, x: Buf, w: &ConvTranspose, out: Buf);

    /// ×2 bilinear, align_corners=True.
    fn upsample(&mut self, x: Buf, out: Buf);

    /// 3×3, stride 2, pad 1.
    fn max_pool(&mut self, x: Buf, out: Buf);

    /// Token ids (`U32`, `[b, 1, t, 1]`) → table row + position row.
    fn embed_tokens(&mut self, ids: Buf, table: Matrix, positions: Vector, out: Buf);

    /// Row `index[b]` (`U32`, `[b, 1, 1, 1]`) of each batch item.
    fn take_rows(&mut self, x: Buf, index: Buf, out: Buf);

    /// The values of a map `[b, h, w, c]` at points of the photo, as if it had been brought to the photo's size first
    /// (×2 with align_corners=True, then align_corners=False to `photo` = (height, width)) and read between its pixels
    /// bilinearly. `points` (`F32`, `[b, 1, n, 2]`) are (x, y) in photo pixels, the centre of pixel 0 at 0; what lies
    /// beyond the outermost centres is read at them. `out` is `[b, 1, n, c]`.
    fn sample(&mut self, x: Buf, points: Buf, photo: (usize, usize), out: Buf);

    /// Features `[b, h, w, f]` → logits `[b, h, w, labels]`; a pixel whose embedding is zero scores 0.
    fn similarity(&mut self, x: Buf, w: &Similarity, out: Buf);

    /// Spatial regularisation: one 3×3 kernel (9 values and a bias in `w`) shared by all labels, pad 1; plus the
    /// maximum over the labels of the input if `bottleneck`; then the activation.
    fn regularise(&mut self, x: Buf, w: Vector, bottleneck: bool, activation: Option<Activation>, out: Buf);

    /// Logits `[b, h, w, n]` → `[b, n, 2h, 2w]` (as the four dimensions), ×2 bilinear, align_corners=True.
    fn upsample_scores(&mut self, logits: Buf, out: Buf);

    /// Logits `[b, h, w, n]`, ×2 (align_corners=True), then resized to the mask's size (align_corners=False) →
    /// the index of the largest at each pixel (`[b, H, W, 1]`, [`Element::of_labels`]); the first of equals, and NaN before all. Where
    /// asked for, `best` (`F32`, the mask's shape) is that largest value. `not_finite` (`U32`, one) is the number of pixels whose
    /// largest value is NaN or infinite: their label says nothing.
    fn argmax(&mut self, logits: Buf, mask: Buf, best: Option<Buf>, not_finite: Buf);

    /// Photo (`U8`, `[b, h, w, 3]`), mask (`[b, h, w, 1]`, as from `argmax`) and a colour a label (`U8`, `[1, 1, labels, 4]`,
    /// the fourth byte the colours' weight w in 128ths, the same for all) → the photo tinted (`U8`, `[b, h, w, 3]`): each channel
    /// ((128 − w) · photo + w · colour) / 128, rounded down.
    fn overlay(&mut self, photo: Buf, mask: Buf, palette: Buf, out: Buf);
}

/// Where weights go at load.
pub trait Upload {
    /// Makes room for a model's weights at once: `matrices` (n, k) and `vectors` (lengths), those that will come.
    fn expect(&mut self, _matrices: &[(usize, usize)], _vectors: &[usize]) -> Result<()> {
        Ok(())
    }

    /// The largest size of a matrix's value that the device holds. Vectors are float32 on every device.
    fn largest_weight(&self) -> f32 {
        f32::MAX
    }

    /// `data` is `[n, k]`, row-major.
    fn matrix(&mut self, n: usize, k: usize, data: &[f32]) -> Result<Matrix>;

    /// The weights of a convolution: `data` is `[outputs, kernel·kernel·inputs]`. A device may keep them transformed, so
    /// that they serve [`Device::conv`] alone.
    fn filters(&mut self, shape: ConvShape, data: &[f32]) -> Result<Matrix> {
        self.matrix(shape.outputs, shape.kernel * shape.kernel * shape.inputs, data)
    }

    fn vector(&mut self, data: &[f32]) -> Result<Vector>;

    /// Puts new values, perhaps of another shape, in the place of `old`.
    fn replace_matrix(&mut self, old: Matrix, n: usize, k: usize, data: &[f32]) -> Result<Matrix>;

    fn replace_vector(&mut self, old: Vector, data: &[f32]) -> Result<Vector>;
}

/// What a device asked of its driver since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Of device memory and page-locked memory.
    pub allocations: u64,
    /// Host to device.
    pub copies_in: u64,
    /// Device to host.
    pub copies_out: u64,
    /// Of kernels one by one.
    pub launches: u64,
    /// Of graphs: whole passes.
    pub graph_launches: u64,
    /// Nodes of the graph that was launched last; 0 where none was.
    pub graph_nodes: usize,
    /// Waits of the host for the device.
    pub synchronisations: u64,
}

/// A device that really runs: weights, an arena, input and output.
pub trait Executor: Device + Upload + Send {
    /// "cpu, 2 threads"
    fn describe(&self) -> String;

    /// Bytes of one [`Element::Activation`].
    fn activation_bytes(&self) -> usize;

    /// Makes sure that passes of this plan need no further memory.
    fn reserve(&mut self, plan: &plan::Plan) -> Result<()>;

    /// Host to arena, before a pass of this plan: `bytes` go to the buffer's byte `first` and on. An input of the plan may be
    /// brought over only when the pass begins.
    fn write(&mut self, plan: &plan::Plan, buf: Buf, first: usize, bytes: &[u8]) -> Result<()>;

    /// The memory of the host that passes of this plan take the input `buf` from, to be filled in the place of
    /// [`Executor::write`]; `None` where they take it from none. It holds what was written until another plan's inputs are.
    fn input_memory(&mut self, plan: &plan::Plan, buf: Buf) -> Result<Option<&mut [u8]>>;

    /// The memory of the host that the last pass of this plan left the output `buf` in; `None` where it left it in none.
    fn output_memory(&self, plan: &plan::Plan, buf: Buf) -> Result<Option<&[u8]>>;

    /// Arena to host, after a pass of this plan: the buffer's bytes from `first` on.
    fn read(&mut self, plan: &plan::Plan, buf: Buf, first: usize, bytes: &mut [u8]) -> Result<()>;

    /// One pass: `forward` asks for the plan's buffers in the plan's order and runs its operations.
    fn run(&mut self, plan: &plan::Plan, forward: &mut (dyn FnMut(&mut dyn Device) + Send)) -> Result<()>;

    /// Seconds of each [`Stage`] in the last pass.
    fn stage_seconds(&self) -> [f64; Stage::ALL.len()];

    /// Seconds of the last pass where the device ran it as one piece, so that nothing is known of its stages.
    fn whole_seconds(&self) -> Option<f64> {
        None
    }

    /// The clock of a GPU's multiprocessors in MHz, just after what was done before.
    fn clock_mhz(&mut self) -> Result<Option<f64>> {
        Ok(None)
    }

    /// None are counted where there is no driver.
    fn calls(&self) -> Calls {
        Calls::default()
    }

    /// Whether the passes to come measure each operation; off at first.
    fn record_times(&mut self, on: bool);

    /// Seconds of each of the plan's operations in the last pass, in the plan's order; empty where they were not recorded.
    fn op_seconds(&self) -> &[f64];
}
