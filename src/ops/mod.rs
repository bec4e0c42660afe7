//! The operations of the network: each is a value with a room of its own.
//!
//! A file has an operation's struct (its buffers, weights and numbers, then its output), what it needs of them, what it
//! reads and writes, its work, the forward lists' verb for it and its cases. Operations are cut where a GPU wants its
//! fusions, so that each is one kernel there. What is said here is said once: devices, plans, reports, tests and benches ask it.

pub mod builder;
#[cfg(feature = "bench")]
pub mod cases;
pub mod epilogue;
pub mod tensor;
pub mod upload;

pub mod add_positions;
pub mod add_window;
pub mod argmax;
pub mod attention;
pub mod conv;
pub mod cut_windows;
pub mod embed_tokens;
pub mod feature_norms;
pub mod form_features;
pub mod gemm;
pub mod gemm_norm;
pub mod layer_norm;
pub mod max_pool;
pub mod merge_scales;
pub mod overlay;
pub mod patchify;
pub mod picture;
pub mod polyphase;
pub mod readout;
pub mod regularise;
pub mod resize_features;
pub mod sample;
pub mod similarity;
pub mod softmax_scores;
pub mod take_rows;
pub mod to_rgb;
pub mod upsample;
pub mod upsample_scores;

pub use self::builder::{PlanBuilder, Stage, Step};
pub use self::epilogue::{Activation, Epilogue, Func};
pub use self::form_features::Layout;
pub use self::picture::Picture;
pub use self::tensor::{Buf, Element, Linear, Matrix, Rows, Vector, Weight};
pub use self::upload::Upload;

/// What every operation says of itself.
pub trait Operation {
    /// Whether its shapes fit together.
    ///
    /// # Errors
    /// The first that do not, in a sentence.
    fn check(&self) -> Result<(), String>;

    /// Shows each buffer and weight, in the struct's order.
    fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>));

    /// Floating-point operations (a multiply-add counts two), as the network defines them.
    fn flop(&self) -> usize;

    /// "901×1024 · 1024→4096"
    fn shapes(&self) -> String;

    /// Bytes of activations that it reads and writes at most, where not of all its buffers each value once.
    fn moved_bytes(&self, _activation: usize) -> Option<usize> {
        None
    }

    /// Bytes of weights that it reads, where not of all its weights each value once.
    fn gathered_bytes(&self, _activation: usize) -> Option<usize> {
        None
    }
}

/// Part of an operation, to be looked at or changed.
pub enum Operand<'a> {
    Read(&'a mut Buf),
    Write(&'a mut Buf),
    /// Read and written in place.
    Update(&'a mut Buf),
    Matrix(&'a mut Matrix),
    Vector(&'a mut Vector),
}

impl Operand<'_> {
    /// The buffer, where it is one.
    pub fn buf(self) -> Option<Buf> {
        match self {
            Operand::Read(buf) | Operand::Write(buf) | Operand::Update(buf) => Some(*buf),
            Operand::Matrix(_) | Operand::Vector(_) => None,
        }
    }
}

/// Makes [`Op`] of a list of rooms.
macro_rules! operations {
    ($($room:ident: $Name:ident),* $(,)?) => {
        $(pub use self::$room::$Name;)*

        /// One operation of a plan.
        // A readout is four levels' operands; a plan has some two hundred operations, and none is copied in a frame.
        #[allow(clippy::large_enum_variant)]
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Op {
            $($Name($Name),)*
        }

        $(impl From<$Name> for Op {
            fn from(op: $Name) -> Op {
                Op::$Name(op)
            }
        })*

        impl Op {
            /// All operations' names.
            pub const NAMES: &[&str] = &[$(stringify!($room),)*];

            /// The name of its room: of its file here, on each device, among the kernels.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Op::$Name(_) => stringify!($room),)*
                }
            }

            fn as_operation(&self) -> &dyn Operation {
                match self {
                    $(Op::$Name(op) => op,)*
                }
            }

            /// Shows each buffer and weight, in the struct's order.
            pub fn operands(&mut self, see: &mut dyn FnMut(Operand<'_>)) {
                match self {
                    $(Op::$Name(op) => op.operands(see),)*
                }
            }
        }

        /// The cases of all rooms.
        #[cfg(feature = "bench")]
        pub(crate) fn all_cases() -> cases::Cases {
            let mut all = cases::Cases::default();
            $($room::cases::add(&mut all);)*
            all
        }
    };
}

operations! {
    patchify: Patchify,
    add_positions: AddPositions,
    gemm: Gemm,
    gemm_norm: GemmNorm,
    layer_norm: LayerNorm,
    attention: Attention,
    conv: Conv,
    readout: Readout,
    polyphase: Polyphase,
    upsample: Upsample,
    max_pool: MaxPool,
    embed_tokens: EmbedTokens,
    take_rows: TakeRows,
    sample: Sample,
    similarity: Similarity,
    regularise: Regularise,
    upsample_scores: UpsampleScores,
    softmax_scores: SoftmaxScores,
    argmax: Argmax,
    to_rgb: ToRgb,
    overlay: Overlay,
    feature_norms: FeatureNorms,
    resize_features: ResizeFeatures,
    form_features: FormFeatures,
    cut_windows: CutWindows,
    add_window: AddWindow,
    merge_scales: MergeScales,
}

impl Op {
    /// As [`Operation::check`].
    ///
    /// # Errors
    /// As there.
    pub fn check(&self) -> Result<(), String> {
        self.as_operation().check()
    }

    /// As [`Operation::flop`].
    pub fn flop(&self) -> usize {
        self.as_operation().flop()
    }

    /// As [`Operation::shapes`].
    pub fn shapes(&self) -> String {
        self.as_operation().shapes()
    }

    /// Its buffers, once each time that one is read or written.
    pub fn buffers(&self) -> Vec<Buf> {
        let mut buffers = Vec::new();
        self.clone().operands(&mut |operand| match operand {
            Operand::Read(buf) | Operand::Write(buf) => buffers.push(*buf),
            Operand::Update(buf) => buffers.extend([*buf, *buf]),
            Operand::Matrix(_) | Operand::Vector(_) => {}
        });
        buffers
    }

    /// Bytes of activations and weights, each read or written once, where activations and matrices take `activation` bytes a value
    /// and vectors are float32.
    pub fn bytes(&self, activation: usize) -> usize {
        let moved = self
            .as_operation()
            .moved_bytes(activation)
            .unwrap_or_else(|| self.buffers().iter().map(|buf| buf.len() * buf.element.bytes(activation)).sum());
        let weights = self.as_operation().gathered_bytes(activation).unwrap_or_else(|| {
            let mut bytes = 0;
            self.clone().operands(&mut |operand| match operand {
                Operand::Matrix(matrix) => bytes += matrix.n * matrix.k * activation,
                Operand::Vector(vector) => bytes += vector.len * Element::F32.bytes(activation),
                _ => {}
            });
            bytes
        });
        moved + weights
    }
}

impl std::fmt::Display for Op {
    /// "gemm 901×1024 · 1024→4096"
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name(), self.shapes())
    }
}

/// The sentence where the condition does not hold.
fn need(holds: bool, sentence: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(sentence()) }
}
