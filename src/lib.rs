//! Language-driven semantic segmentation (LSeg, arXiv 2201.03546): words in, photo in, pixels named out.
//!
//! [`Engine`] is the whole of it for most programs: load a model, set the labels, segment frames. The command line is built on
//! the same calls. An engine is one [`Network`] (weights on a device) with one [`Lane`] (the flow of one camera) and its
//! [`Labels`]; programs with several cameras hold these themselves.
//!
//! ```
//! use lseg_fast::{Engine, Image, Options};
//!
//! # fn main() -> lseg_fast::Result<()> {
//! // For photographs: Engine::load("lseg.safetensors".as_ref(), …), of a file that `lseg-fast convert` has made.
//! let mut engine = Engine::load_demo(&Options::default())?;
//! engine.set_templates(&["a picture of a {}".to_owned()])?; // or none
//! engine.set_labels(&["dog", "grass", "other"])?; // the text tower runs once for each new word
//! let rgb = vec![128; 64 * 48 * 3];
//! let segmentation = engine.segment(&Image::rgb8(64, 48, &rgb))?;
//! assert!(segmentation.mask.iter().all(|label| *label < 3));
//! # Ok(())
//! # }
//! ```
//!
//! # The ways in
//!
//! | for | call | yields |
//! |---|---|---|
//! | a photo | [`Engine::segment`], [`Engine::segment_into`] | a mask, `height · width` indices into the labels |
//! | a photo's logits, probabilities, winning logits, colours; several photos of one size | [`Engine::run`] with [`Wanted`] | [`Results`] |
//! | several cameras on one set of weights | [`Network::lane`], [`Lane::run`], [`Network::run_batch`] | [`Results`] |
//! | a camera: the newest frame, or every one, on a thread of its own | [`stream::Stream`] | answers with the frame's stamp |
//! | cameras, videos and pipes as sources | [`video::open`] | frames, written where a stream has room |
//! | other words while frames run | [`Network::labels`], [`LabelSlot`] | [`Labels`], whose epoch each result carries |
//! | frames one behind the other | [`Lane::submit`], [`Lane::wait`] | [`Results`]; on a GPU one is computed while the next is brought over |
//! | frames written where a GPU takes them | [`Engine::frame_buffer`], [`Engine::segment_buffered`] | masks; nothing is allocated from the second frame on, and a GPU takes the frame from where it was written |
//! | embeddings of all pixels, or at points | [`Engine::embed`], [`Engine::embed_at`] | [`Embedding`], vectors |
//! | embeddings at the photo's size | [`Engine::embed_resized`] | a NumPy file, written as it is made |
//! | a whole photo in windows, scales and flips, as a [preset](protocol::preset) says | [`Engine::run_whole`], [`Engine::whole`] | [`Results`], rows as they are done |
//! | embeddings of words | [`Engine::label_embeddings`] | unit vectors |
//! | a file as it was published | [`Checkpoint`](checkpoint::Checkpoint), [`convert`](convert::convert) | one safetensors file |
//! | a photo's file | [`image::decode`] | RGB bytes as Pillow gives them, upright, opaque |
//! | a list of labels as it is typed | [`labels::parse`], [`Engine::set_list`] | errors that name the line |
//!
//! Errors are one line: what was expected, what was found, what to do ([`Error`]). An engine and a lane are `Send`, a network and labels also `Sync`. [`Options`] choose the
//! device and bound memory and a GPU's time. CUDA kernels are part of a build that finds nvcc; they are verified on a virtual GPU,
//! not on silicon.
//!
//! # Features
//!
//! All but `serve` are on by default; a program that embeds the engine turns them off (`default-features = false`).
//!
//! | feature | brings |
//! |---|---|
//! | `demo` | the demo model inside the library ([`demo`]) |
//! | `overlay` | pictures with a legend, for people (`image::overlay`), and with them fonts |
//! | `cli` | the program's command line; takes `overlay` and `bench` |
//! | `bench` | measuring and checking devices, for the program |
//! | `golden` | the golden networks, for the program's `bench check` |
//! | `serve` | `lseg-fast serve`, a page and an API over HTTP: docs/serve.md |

#![warn(missing_docs)]

pub mod checkpoint;
pub mod checksum;
pub mod convert;
pub mod demo;
pub mod embedding;
pub mod engine;
pub mod error;
pub mod image;
pub mod labels;
pub mod memory;
pub mod model;
mod pixels;
pub mod protocol;
pub mod stream;
pub mod video;

// Internals that the program, the tests and the benches use; nothing here promises to stay as it is.
#[doc(hidden)]
pub mod atomic_file;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod build;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod device;
#[cfg(any(feature = "cli", feature = "bench"))]
#[doc(hidden)]
pub mod eval;
#[doc(hidden)]
pub mod feature_file;
#[doc(hidden)]
pub mod ops;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod plan_report;
#[doc(hidden)]
pub mod points;
#[doc(hidden)]
pub mod resample;
#[cfg(feature = "serve")]
#[doc(hidden)]
pub mod serve;
#[doc(hidden)]
pub mod termination;
#[doc(hidden)]
pub mod tokenizer;

mod file_kind;
mod safetensors_header;
mod unit_vector;

pub use embedding::Embedding;
pub use engine::{
    Alpha, ContextKind, DeviceChoice, DeviceResults, DeviceTensor, EmbeddingForm, Engine, LabelOptions, LabelSlot,
    Labels, Lane, Layout, LongLabels, MapSize, Network, Options, Output, Progress, Resized, Results, Scores,
    Segmentation, Stripe, TemplateList, TensorElement, Threshold, Ticket, UNLABELLED, UNLABELLED_8, Wait, Wanted,
    Whole, WholeOptions,
};
pub use error::{Error, Result};
pub use pixels::{CudaImage, Format, Image, Plane, PlaneSize, Yuv, YuvMatrix, YuvRange};
pub use protocol::Size;
#[doc(hidden)]
pub use torch_file::printable;
