//! What operations work on: buffers of activations, handles of weights.
//!
//! Layout: maps are `[batch, height, width, channels]`, channels last; token sequences are `[batch, 1, tokens, width]`.

/// What one element of a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// The device's own storage type for activations: float32 on the CPU, float16 on a GPU.
    Activation,
    /// float32 on every device: the residual stream of the transformers, logits, results.
    F32,
    /// float16 on every device: results that are wanted so.
    F16,
    U8,
    U16,
    U32,
}

impl Element {
    /// What a mask of so many labels is made of: bytes where they hold every label.
    pub fn of_labels(labels: usize) -> Element {
        if labels <= 256 { Element::U8 } else { Element::U16 }
    }

    /// The same of masks in which pixels may have none: the largest value is then no label's.
    pub fn of_mask(labels: usize, unlabelled: bool) -> Element {
        Element::of_labels(labels + usize::from(unlabelled))
    }

    /// Bytes of one element where activations take `activation` bytes.
    pub fn bytes(self, activation: usize) -> usize {
        match self {
            Element::Activation => activation,
            Element::F32 | Element::U32 => 4,
            Element::F16 | Element::U16 => 2,
            Element::U8 => 1,
        }
    }
}

/// A buffer of a plan: a place in the device's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buf {
    /// Position in the plan's buffer table.
    pub index: usize,
    /// Bytes from the arena's start (0 until the plan has placed it).
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

    /// "30×30×1024", without a batch or a height of one.
    pub(super) fn describe(&self) -> String {
        let [b, h, w, c] = self.shape;
        match (b, h) {
            (1, 1) => format!("{w}×{c}"),
            (1, _) => format!("{h}×{w}×{c}"),
            (_, 1) => format!("{b}×{w}×{c}"),
            _ => format!("{b}×{h}×{w}×{c}"),
        }
    }
}

/// Rows `first .. first + count` of every batch item of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    pub buf: Buf,
    pub first: usize,
    pub count: usize,
}

impl Rows {
    /// Over the whole batch.
    pub fn all_count(&self) -> usize {
        self.buf.batch() * self.count
    }

    pub(super) fn fit(&self) -> bool {
        self.first + self.count <= self.buf.rows()
    }
}

/// A weight matrix `[n, k]`, or a large table read by rows (token embedding), that the device keeps in its own layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    pub index: usize,
    pub n: usize,
    pub k: usize,
}

/// A weight vector (bias, LayerNorm weight) or a small table read by rows (positions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector {
    pub index: usize,
    pub len: usize,
}

/// y = x·Wᵀ + b.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// `[n, k]`
    pub weight: Matrix,
    /// `[n]`
    pub bias: Option<Vector>,
}

/// A weight to come, in shape alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// `[n, k]`; `halves`: each value is a float16's.
    Matrix { n: usize, k: usize, halves: bool },
    /// Of a convolution.
    Filters(super::conv::Shape),
    /// Of a polyphase convolution.
    Phases(super::polyphase::Shape),
    /// So many values.
    Vector(usize),
}

impl Weight {
    /// Rows and columns; a vector is a column.
    pub fn size(self) -> (usize, usize) {
        match self {
            Weight::Matrix { n, k, .. } => (n, k),
            Weight::Filters(shape) => (shape.outputs, shape.kernel * shape.kernel * shape.inputs),
            Weight::Phases(shape) => shape.size(),
            Weight::Vector(len) => (len, 1),
        }
    }
}
