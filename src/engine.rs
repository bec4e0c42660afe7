//! The engine: a model on a device, a list of labels, and one planned session per (size, labels, outputs).

mod finite;
mod matmul;
mod of_process;
mod place;
mod templates;
mod texts;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use half::f16;
use half::slice::HalfFloatSliceExt;

use self::matmul::Matmul;
use self::of_process::OfProcess;
use self::texts::Text;
use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::device::cuda::{Cuda, Waiting};
use crate::device::plan::{self, Plan};
use crate::device::{Buf, Calls, Element, Executor, Similarity, Stage, cpu::Cpu};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::labels::{self, List};
use crate::model::config::Config;
use crate::model::recognise::{Flags, recognise};
use crate::model::weights::Loader;
use crate::model::{FrameIo, FrameShape, Model, Outputs, scale, tensors};
use crate::points;
use crate::protocol::Size;
use crate::report::OpTiming;
use crate::tokenizer::{Tokenizer, Tokens};

/// Sessions kept for sizes and outputs seen before. A plan is small; the arena is one for all.
const SESSIONS: usize = 8;
/// Text features kept for words that come back.
const TEXTS: usize = 16_384;

/// What most frames are for.
const MASK: Outputs = Outputs { mask: true, scores: false, best: false, overlay: false, embedding: false, points: 0 };

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where one works, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// A GPU by its number (the first if none).
    Cuda(Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "auto" => return Ok(DeviceChoice::Auto),
            None if text == "cpu" => return Ok(DeviceChoice::Cpu),
            None if text == "cuda" => return Ok(DeviceChoice::Cuda(None)),
            Some(("cuda", number)) => {
                if let Ok(number) = number.parse() {
                    return Ok(DeviceChoice::Cuda(Some(number)));
                }
            }
            _ => {}
        }
        Err(Error::Device(format!("device {text:?}: expected auto, cpu, cuda or cuda:N")))
    }
}

/// What becomes of labels that have more tokens than the text tower reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongLabels {
    /// [`Engine::set_labels`] fails.
    #[default]
    Refuse,
    /// Only their beginning is read, as with CLIP's `tokenize(text, truncate=True)`; [`Engine::label_notes`] says so.
    Cut,
}

/// How to load a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub device: DeviceChoice,
    /// CPU threads; all that the machine offers if none.
    pub threads: Option<usize>,
    /// The most bytes that weights, a frame and its results may take together in the device's memory; three quarters of what
    /// is free if none.
    pub memory: Option<u64>,
    /// How long a GPU may take for one pass: a frame, or a batch of texts. After it the engine is lost ([`Error::Lost`]). As
    /// long as it likes if none. Waiting with a limit asks the driver again and again.
    pub timeout: Option<Duration>,
    pub wait: Wait,
}

/// How the host waits for a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// As the driver chooses: with few GPU contexts it asks again and again, which is the quickest and takes a core.
    #[default]
    Driver,
    /// Asleep until the GPU calls: some microseconds later, and the core is free.
    Block,
}

/// A photo in memory: 8-bit RGB, rows from the top, no padding between them.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub width: usize,
    pub height: usize,
    /// `height · width · 3` bytes
    pub rgb: &'a [u8],
}

/// Each pixel's label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segmentation {
    pub width: usize,
    pub height: usize,
    /// `height · width` indices into the labels
    pub mask: Vec<u16>,
}

impl Segmentation {
    /// Each label's share of the pixels, for `labels` labels; the sum is 1.
    pub fn shares(&self, labels: usize) -> Vec<f64> {
        let mut counts = vec![0u64; labels];
        for index in &self.mask {
            if let Some(count) = counts.get_mut(usize::from(*index)) {
                *count += 1;
            }
        }
        counts.into_iter().map(|count| count as f64 / self.mask.len().max(1) as f64).collect()
    }
}

/// Logits of every label at every pixel of the network's input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    pub labels: usize,
    pub height: usize,
    pub width: usize,
    /// `[labels, height, width]`
    pub data: Vec<f32>,
}

/// What [`Engine::segment_with`] yields beside the mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras<'a> {
    pub scores: bool,
    pub best: bool,
    /// For an overlay: one RGB colour a label, such as [`palette`](crate::image::palette::palette) has.
    pub colours: Option<&'a [[u8; 3]]>,
    /// The colours' weight in the overlay.
    pub alpha: Alpha,
}

/// The weight of the labels' colours in an overlay, the photo's is what is left to 1. Kept in 128ths; a half by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alpha(u8);

impl Alpha {
    /// `None` for a weight that is not within 0 (the photo as it is) and 1 (the colours alone).
    pub fn new(weight: f64) -> Option<Alpha> {
        (0.0..=1.0).contains(&weight).then(|| Alpha((128.0 * weight).round() as u8))
    }
}

impl Default for Alpha {
    fn default() -> Alpha {
        Alpha(64)
    }
}

/// A frame's mask and what was asked for beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segmented {
    pub segmentation: Segmentation,
    /// The logits at the network's size.
    pub scores: Option<Scores>,
    /// `[height, width]` of the frame: the logit of each pixel's label, brought to the frame's size as the mask is.
    pub best: Option<Vec<f32>>,
    /// `[height, width, 3]`: the frame tinted with its labels' colours, each channel rounded down.
    pub overlay: Option<Vec<u8>>,
}

/// What a pass takes in beside frames.
#[derive(Clone, Copy, Default)]
struct Given<'a> {
    points: &'a [[f32; 2]],
    palette: &'a [[u8; 4]],
}

/// A buffer of the forward pass, read out by [`Engine::inspect`].
#[derive(Clone, Debug, PartialEq)]
pub struct Tap {
    pub name: String,
    /// `[batch, height, width, channels]`; tokens have height 1
    pub shape: [usize; 4],
    pub data: Vec<f32>,
}

/// A model, ready to segment. It may move between threads; each engine has its own memory. In a process that was forked from
/// the one that made it, each call is an error.
///
/// ```
/// use lseg_fast::{Engine, Frame, Options};
///
/// # fn main() -> lseg_fast::Result<()> {
/// let mut engine = Engine::load("weights/seeded/seeded.ckpt".as_ref(), &Options::default())?;
/// engine.set_labels(&["cat", "wall", "other"])?;
///
/// let (width, height) = (64, 32);
/// let rgb = vec![128; width * height * 3];
/// let segmentation = engine.segment(&Frame { width, height, rgb: &rgb })?;
/// assert_eq!(segmentation.mask.len(), width * height);
///
/// for (label, share) in engine.labels().iter().zip(segmentation.shares(3)) {
///     println!("{label}: {:.1} %", 100.0 * share);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Engine {
    model: Model,
    device: OfProcess,
    description: String,
    note: Option<String>,
    tokenizer: Tokenizer,
    size: Size,
    labels: Vec<String>,
    long_labels: LongLabels,
    label_notes: Vec<String>,
    bank: Option<Similarity>,
    /// `[labels, embed_dim]`: what the bank was made of, of any length.
    features: Vec<f32>,
    templates: Vec<String>,
    /// Labels seen, in their templates.
    texts: HashMap<String, Text>,
    /// The most recently used last.
    sessions: Vec<Session>,
    stage_times: Vec<(&'static str, Duration)>,
    text_time: Duration,
    /// Once its rate was asked for.
    matmul: Option<Matmul>,
    /// The size (width, height) of a frame that the caller writes or has written, and its memory where the device has none.
    buffered: Option<(usize, usize)>,
    own_buffer: Vec<u8>,
}

/// A planned frame.
struct Session {
    key: Key,
    plan: Plan,
    io: FrameIo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    shape: FrameShape,
    labels: usize,
    outputs: Outputs,
    keep: Vec<String>,
}

impl Engine {
    /// Loads a converted `.safetensors` or a published checkpoint onto a device.
    ///
    /// # Errors
    /// A file that is missing, damaged or no LSeg; a tensor of the wrong shape or type, or with values that are no finite
    /// numbers; a device that is not there or is in use; [`Error::Memory`] where the GPU has not enough;
    /// [`Error::NotFinite`] for weights beyond float16 on a GPU that was asked for.
    pub fn load(path: &Path, options: &Options) -> Result<Engine> {
        Self::from_checkpoint(&Checkpoint::open(path)?, options)
    }

    /// Loads the small model that is part of the program ([`demo`](crate::demo)).
    ///
    /// # Errors
    /// [`Error::NoModel`] where the build left it out; a device that is not there.
    pub fn load_demo(options: &Options) -> Result<Engine> {
        Self::from_checkpoint(&demo::checkpoint()?, options)
    }

    /// Loads an open checkpoint onto a device.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn from_checkpoint(checkpoint: &Checkpoint, options: &Options) -> Result<Engine> {
        let config = recognise(checkpoint, &Flags::default())?;
        let size = config
            .default_size
            .parse()
            .map_err(|e| Error::config(checkpoint.path(), format!("default_size of its configuration: {e}")))?;
        let tokenizer = Tokenizer::new(config.text.vocab, config.text.context)?;
        tensors::check(checkpoint, &config)?;
        let mut shapes = Loader::shapes();
        Model::load(&config, &mut shapes)?;
        let cpu = || Ok(device(&Options { device: DeviceChoice::Cpu, ..*options }, &shapes)?.0);
        let spare = (options.device == DeviceChoice::Auto).then_some(cpu);
        let (model, (device, note)) = place::place(device(options, &shapes)?, spare, |device| {
            Model::load(&config, &mut Loader::new(checkpoint, device))
        })?;
        Ok(Engine {
            model,
            description: device.describe(),
            device: OfProcess::new(device),
            note,
            tokenizer,
            size,
            labels: Vec::new(),
            long_labels: LongLabels::default(),
            label_notes: Vec::new(),
            bank: None,
            features: Vec::new(),
            templates: Vec::new(),
            texts: HashMap::new(),
            sessions: Vec::new(),
            stage_times: Vec::with_capacity(Stage::ALL.len()),
            text_time: Duration::ZERO,
            matmul: None,
            buffered: None,
            own_buffer: Vec::new(),
        })
    }

    pub fn config(&self) -> &Config {
        &self.model.config
    }

    /// "cpu, 2 threads"
    pub fn device(&self) -> &str {
        &self.description
    }

    /// Why the choice of the device fell as it did, where that needs saying.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The network's input size for the frames to come; the model's own until this is called.
    pub fn set_size(&mut self, size: Size) {
        self.size = size;
    }

    /// Time of each stage of the last frame, by the device's clock. A GPU replays a frame of a size, labels and outputs
    /// that it has seen twice as one piece, of which only the whole is known: "frame".
    pub fn stage_times(&self) -> &[(&'static str, Duration)] {
        &self.stage_times
    }

    /// Seconds of the last frame by the device's own clock, its copies included, where it ran as one piece.
    pub fn frame_seconds(&self) -> Option<f64> {
        self.device.whole_seconds()
    }

    /// The clock of the GPU's multiprocessors in MHz, just after the last frame; none on a CPU.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn clock_mhz(&mut self) -> Result<Option<f64>> {
        self.device.check()?;
        self.device.clock_mhz()
    }

    /// Wall time of the text tower in the last [`Engine::set_labels`]; zero where every label was known.
    pub fn text_time(&self) -> Duration {
        self.text_time
    }

    /// The words to look for. Labels that this engine has encoded before cost nothing again.
    ///
    /// # Errors
    /// [`Error::Labels`] for an empty list, more than 65,535 labels, an empty label or one with a line end, a label in which
    /// the text tower sees nothing or the same as in another, and, unless they are to be cut
    /// ([`Engine::set_long_labels`]), a label longer than the text tower's context. The old labels then stay.
    /// [`Error::NotFinite`] for a label that the text tower makes no finite numbers of. The old labels then stay.
    /// [`Error::Device`] where memory runs out; there may be no labels then.
    pub fn set_labels<S: AsRef<str>>(&mut self, labels: &[S]) -> Result<()> {
        self.set_list(&labels::checked(labels)?)
    }

    /// As [`Engine::set_labels`]; errors name the places in the list's file.
    ///
    /// # Errors
    /// As [`Engine::set_labels`].
    pub fn set_list(&mut self, list: &List) -> Result<()> {
        self.device.check()?;
        self.text_time = Duration::ZERO;
        let texts: Vec<Vec<String>> = list.texts().map(|label| templates::fill(&self.templates, label)).collect();
        let unknown = self.tokens_of_unknown(&texts)?;
        let notes = self.check_tokens(list, &texts, &unknown)?;
        self.encode_unknown(&texts, unknown)?;
        let features = |text: &String| &*self.texts[text].features;
        let bank: Vec<f32> = if self.templates.is_empty() {
            texts.iter().flatten().flat_map(|text| features(text).iter().copied()).collect()
        } else {
            texts.iter().flat_map(|texts| templates::mean(texts.iter().map(features))).collect()
        };
        let old = self.bank.map(|bank| bank.labels);
        // Where the upload fails half-way there are neither the old labels nor the new.
        self.labels.clear();
        self.label_notes.clear();
        self.features.clear();
        self.bank = Some(self.model.head.upload_bank(&mut *self.device, &bank, old)?);
        self.labels = list.texts().map(str::to_owned).collect();
        self.label_notes = notes;
        self.features = bank;
        if self.texts.len() > TEXTS {
            let current: HashSet<&String> = texts.iter().flatten().collect();
            self.texts.retain(|text, _| current.contains(text));
        }
        Ok(())
    }

    /// What to do with labels that are too long for the text tower, in the next [`Engine::set_labels`].
    pub fn set_long_labels(&mut self, long_labels: LongLabels) {
        self.long_labels = long_labels;
    }

    /// Which of the labels are cut, and where; one line each.
    pub fn label_notes(&self) -> &[String] {
        &self.label_notes
    }

    /// Texts around the labels, such as "a photo of a {}", for the next [`Engine::set_labels`]: each filled-in text is
    /// encoded and normalised, and the mean of a label's texts stands for it. Without templates a label stands for itself.
    ///
    /// # Errors
    /// [`Error::Template`] if one has no `{}`. The old templates then stay.
    pub fn set_templates(&mut self, templates: &[String]) -> Result<()> {
        templates::check(templates)?;
        self.templates = templates.to_vec();
        Ok(())
    }

    /// The labels' embeddings as the pixels are compared with them, `[labels, embed_dim]`: unit vectors (a zero vector
    /// stays zero).
    pub fn label_embeddings(&self) -> Vec<f32> {
        self.features.chunks_exact(self.model.config.embed_dim).flat_map(templates::unit).collect()
    }

    /// The text tower's output for a text that has been encoded (a label that was set, or a template filled in):
    /// `embed_dim` values, not normalised.
    pub fn text_features(&self, text: &str) -> Option<&[f32]> {
        self.texts.get(text).map(|text| &*text.features)
    }

    /// Each pixel's label.
    ///
    /// # Errors
    /// [`Error::Labels`] before [`Engine::set_labels`]; [`Error::Size`] for a frame without pixels, of more bytes than
    /// pixels, or too large; [`Error::Device`] where memory runs out; [`Error::NotFinite`] where a pixel's winning score is
    /// no finite number.
    pub fn segment(&mut self, frame: &Frame<'_>) -> Result<Segmentation> {
        let mut segmentation = Segmentation::default();
        self.segment_into(frame, &mut segmentation)?;
        Ok(segmentation)
    }

    /// As [`Engine::segment`], into memory that is used again: from the second frame of a size on nothing is allocated,
    /// but for a 1.5 KB block of the thread pool's queue every 63 frames.
    ///
    /// # Errors
    /// As [`Engine::segment`].
    pub fn segment_into(&mut self, frame: &Frame<'_>, segmentation: &mut Segmentation) -> Result<()> {
        let io = self.run(std::slice::from_ref(frame), MASK, &[])?;
        self.check_winners(io)?;
        self.read_mask(io, 0, segmentation)
    }

    /// Memory for the next frame, `height · width · 3` bytes of RGB: what the device takes frames from, so that a camera's driver or
    /// a decoder that writes there saves a copy. What is in it stays, until this engine sees other frames or other words; to be
    /// segmented by [`Engine::segment_buffered`].
    ///
    /// ```
    /// # use lseg_fast::{Engine, Options, Segmentation};
    /// # fn main() -> lseg_fast::Result<()> {
    /// # let mut engine = Engine::load("weights/seeded/seeded.ckpt".as_ref(), &Options::default())?;
    /// # engine.set_labels(&["cat", "wall", "other"])?;
    /// let mut segmentation = Segmentation::default();
    /// // Here a camera's driver would write.
    /// engine.frame_buffer(64, 32)?.fill(128);
    /// engine.segment_buffered(&mut segmentation)?;
    /// assert_eq!(segmentation.mask.len(), 64 * 32);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Engine::segment`].
    pub fn frame_buffer(&mut self, width: usize, height: usize) -> Result<&mut [u8]> {
        let (photo, bytes) = self.buffer_session(width, height)?;
        self.buffered = Some((width, height));
        let plan = &self.sessions.last().expect("the session in use is the last").plan;
        if self.device.input_memory(plan, photo)?.is_some() {
            return Ok(self.device.input_memory(plan, photo)?.expect("it was there"));
        }
        self.own_buffer.resize(bytes, 0);
        Ok(&mut self.own_buffer)
    }

    /// As [`Engine::segment_into`], of the frame in [`Engine::frame_buffer`].
    ///
    /// # Errors
    /// As [`Engine::segment`]; [`Error::Size`] where no frame is there, or another was seen meanwhile.
    pub fn segment_buffered(&mut self, segmentation: &mut Segmentation) -> Result<()> {
        let Some((width, height)) = self.buffered else {
            let what = "the frame buffer holds no frame: call frame_buffer and fill it (other frames and words take its place)";
            return Err(Error::Size(what.to_owned()));
        };
        let (photo, _) = self.buffer_session(width, height)?;
        let plan = &self.sessions.last().expect("the session in use is the last").plan;
        if self.device.input_memory(plan, photo)?.is_none() {
            self.device.write(plan, photo, 0, &self.own_buffer)?;
        }
        let io = self.run_session()?;
        self.check_winners(io)?;
        self.read_mask(io, 0, segmentation)
    }

    /// The session of a mask of one such frame: its photo and the photo's bytes.
    fn buffer_session(&mut self, width: usize, height: usize) -> Result<(Buf, usize)> {
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3)).filter(|bytes| *bytes > 0);
        let bytes = bytes.ok_or_else(|| {
            Error::Size(format!("a frame of {width}×{height}: at least one pixel, and fewer than memory has"))
        })?;
        let bank = self.bank_for(MASK)?;
        let photo = (height, width);
        let shape = FrameShape { batch: 1, photo, network: self.size.network_size(height, width)? };
        self.session(shape, bank, MASK, &[])?;
        Ok((self.sessions.last().expect("the session in use is the last").io.photo, bytes))
    }

    /// Several photos of one size at once.
    ///
    /// # Errors
    /// As [`Engine::segment`]; [`Error::Size`] also for frames of different sizes.
    pub fn segment_batch(&mut self, frames: &[Frame<'_>]) -> Result<Vec<Segmentation>> {
        let io = self.run(frames, MASK, &[])?;
        self.check_winners(io)?;
        (0..frames.len())
            .map(|b| {
                let mut segmentation = Segmentation::default();
                self.read_mask(io, b, &mut segmentation)?;
                Ok(segmentation)
            })
            .collect()
    }

    /// The logits at the network's size.
    ///
    /// # Errors
    /// As [`Engine::segment`]; [`Error::NotFinite`] where any score is no finite number.
    pub fn scores(&mut self, frame: &Frame<'_>) -> Result<Scores> {
        let outputs = Outputs { scores: true, ..Outputs::default() };
        let io = self.run(std::slice::from_ref(frame), outputs, &[])?;
        self.read_scores(io)
    }

    /// Mask and logits of one pass.
    ///
    /// # Errors
    /// As [`Engine::segment`].
    pub fn segment_with_scores(&mut self, frame: &Frame<'_>) -> Result<(Segmentation, Scores)> {
        let Segmented { segmentation, scores, .. } =
            self.segment_with(frame, Extras { scores: true, ..Extras::default() })?;
        Ok((segmentation, scores.expect("scores were asked for")))
    }

    /// The mask and more of one pass.
    ///
    /// # Errors
    /// As [`Engine::segment`]; [`Error::Labels`] also for more or fewer colours than labels.
    pub fn segment_with(&mut self, frame: &Frame<'_>, extras: Extras<'_>) -> Result<Segmented> {
        let Extras { scores, best, colours, alpha } = extras;
        let overlay = colours.is_some();
        let palette: Vec<[u8; 4]> = colours.unwrap_or_default().iter().map(|[r, g, b]| [*r, *g, *b, alpha.0]).collect();
        if overlay && palette.len() != self.labels.len() {
            let (colours, labels) = (palette.len(), self.labels.len());
            return Err(Error::Labels(format!("{colours} colours for {labels} labels: give one a label")));
        }
        let outputs = Outputs { mask: true, scores, best, overlay, ..Outputs::default() };
        let given = Given { palette: &palette, ..Given::default() };
        let io = self.run_given(std::slice::from_ref(frame), given, outputs, &[])?;
        self.check_winners(io)?;
        let mut segmentation = Segmentation::default();
        self.read_mask(io, 0, &mut segmentation)?;
        Ok(Segmented {
            segmentation,
            scores: scores.then(|| self.read_scores(io)).transpose()?,
            best: best.then(|| self.read_all(io.best)).transpose()?,
            overlay: overlay.then(|| self.read_all(io.overlay)).transpose()?,
        })
    }

    /// The pixels' embeddings at half the network's size. Needs no labels.
    ///
    /// # Errors
    /// As [`Engine::segment`], but for labels; [`Error::NotFinite`] where a value is none, or beyond 10¹⁶.
    pub fn embed(&mut self, frame: &Frame<'_>) -> Result<Embedding> {
        let outputs = Outputs { embedding: true, ..Outputs::default() };
        let io = self.run(std::slice::from_ref(frame), outputs, &[])?;
        let [_, height, width, channels] = io.embedding.expect("a pass for embeddings has them").shape;
        let data = self.read_embeddings(io.embedding)?;
        Ok(Embedding { channels, height, width, data })
    }

    /// The embeddings `[points, embed_dim]` at points (x, y) of the photo, in its pixels, the centre of pixel 0 at 0:
    /// the map of [`Engine::embed`] brought to the photo's size, read between its pixels bilinearly, but only the points'
    /// embeddings are formed. Needs no labels.
    ///
    /// # Errors
    /// As [`Engine::segment`], but for labels; [`Error::Points`] for a point outside the photo.
    pub fn embed_at(&mut self, frame: &Frame<'_>, points: &[[f32; 2]]) -> Result<Vec<f32>> {
        let inside = |point: &[f32; 2]| points::inside(*point, frame.height, frame.width);
        if let Some(at) = points.iter().position(|point| !inside(point)) {
            let place = format!("point {at} of the list");
            return Err(points::outside(&place, points[at], frame.height, frame.width));
        }
        if points.is_empty() {
            return Ok(Vec::new());
        }
        let outputs = Outputs { points: points.len(), ..Outputs::default() };
        let given = Given { points, ..Given::default() };
        let io = self.run_given(std::slice::from_ref(frame), given, outputs, &[])?;
        self.read_embeddings(io.sampled)
    }

    /// Whether the frames to come measure each operation ([`Engine::timings`]).
    pub fn record_times(&mut self, on: bool) {
        self.sessions.clear();
        self.device.record_times(on);
    }

    /// Each operation of the last frame with its time, as executed; empty where times were not recorded.
    pub fn timings(&self) -> Vec<OpTiming> {
        let ops = self.sessions.last().map_or(&[][..], |session| &session.plan.ops);
        // Another pass (labels, the matmul rate) may have come after the frame.
        let seconds = Some(self.device.op_seconds()).filter(|seconds| seconds.len() == ops.len()).unwrap_or_default();
        ops.iter().zip(seconds).map(|(op, seconds)| OpTiming { op: op.into(), seconds: *seconds }).collect()
    }

    /// FLOP a second that this device reaches at a large product (1024×1024 · 1024→1024): what an operation's own rate is
    /// held against. Each call takes 0.1 s; the fastest product of all calls counts, so that calls before and after
    /// frames find a moment without other work. Read [`Engine::timings`] first.
    ///
    /// # Errors
    /// [`Error::Device`] where memory runs out.
    pub fn matmul_rate(&mut self) -> Result<f64> {
        self.device.check()?;
        let device = &mut *self.device;
        let matmul = match &mut self.matmul {
            Some(matmul) => Ok(matmul),
            none => Matmul::new(device).map(|matmul| none.insert(matmul)),
        };
        let rate = matmul.and_then(|matmul| matmul.rate(device));
        if rate.is_err() {
            // As in `reserve`.
            self.sessions.clear();
        }
        rate
    }

    /// What the device asked of its driver since it was made; nothing on the CPU.
    pub fn device_calls(&self) -> Calls {
        self.device.calls()
    }

    /// Runs a batch and reads the floating-point buffers of these names (`lseg-fast plan` lists them), every one of a name in
    /// the order of the pass. For tests and for looking inside.
    ///
    /// # Errors
    /// As [`Engine::segment_batch`].
    pub fn inspect(&mut self, frames: &[Frame<'_>], names: &[&str]) -> Result<Vec<Tap>> {
        self.run(frames, Outputs { mask: true, scores: true, embedding: true, ..Outputs::default() }, names)?;
        let plan = &self.sessions.last().expect("a session has just run").plan;
        let bufs: Vec<(&str, Buf)> = names.iter().flat_map(|name| plan.named(name).map(|buf| (*name, buf))).collect();
        let device = &mut self.device;
        let read = |(name, buf): (&str, Buf)| {
            let mut data = vec![0.0; buf.len()];
            if buf.element == Element::Activation && device.activation_bytes() == size_of::<f16>() {
                let mut halves = vec![f16::ZERO; buf.len()];
                device.read(plan, buf, 0, bytemuck::cast_slice_mut(&mut halves))?;
                halves.convert_to_f32_slice(&mut data);
            } else {
                device.read(plan, buf, 0, bytemuck::cast_slice_mut(&mut data))?;
            }
            Ok(Tap { name: name.to_owned(), shape: buf.shape, data })
        };
        let mut taps: Vec<Tap> = bufs.into_iter().map(read).collect::<Result<_>>()?;
        taps.iter_mut().for_each(|tap| self.unscale(&tap.name, &mut tap.data));
        Ok(taps)
    }

    /// Plans if this is new, then one pass: photos in, operations, nothing out yet.
    fn run(&mut self, frames: &[Frame<'_>], outputs: Outputs, keep: &[&str]) -> Result<FrameIo> {
        self.run_given(frames, Given::default(), outputs, keep)
    }

    /// As [`Engine::run`], with `outputs.points` points, the same for every photo, and a palette where the outputs need one.
    fn run_given(
        &mut self,
        frames: &[Frame<'_>],
        given: Given<'_>,
        outputs: Outputs,
        keep: &[&str],
    ) -> Result<FrameIo> {
        let bank = self.bank_for(outputs)?;
        let shape = self.frame_shape(frames)?;
        self.session(shape, bank, outputs, keep)?;
        self.buffered = None;
        let Session { plan, io, .. } = self.sessions.last().expect("the session in use is the last");
        if let Some(place) = io.palette {
            self.device.write(plan, place, 0, given.palette.as_flattened())?;
        }
        let bytes = shape.photo.0 * shape.photo.1 * 3;
        for (b, frame) in frames.iter().enumerate() {
            self.device.write(plan, io.photo, b * bytes, frame.rgb)?;
            if let Some(place) = io.points {
                self.device.write(plan, place, b * size_of_val(given.points), bytemuck::cast_slice(given.points))?;
            }
        }
        self.run_session()
    }

    /// The labels' bank where these outputs need one.
    fn bank_for(&self, outputs: Outputs) -> Result<Option<Similarity>> {
        let bank = self.bank.filter(|_| !self.labels.is_empty() && (outputs.mask || outputs.scores));
        if bank.is_none() && (outputs.mask || outputs.scores) {
            return Err(Error::Labels("no labels are set; call set_labels first".to_owned()));
        }
        Ok(bank)
    }

    /// One pass of the last session, whose inputs are written.
    fn run_session(&mut self) -> Result<FrameIo> {
        let session = self.sessions.last().expect("the session in use is the last");
        let Key { shape, outputs, .. } = session.key;
        let (model, bank) = (&self.model, self.bank_for(outputs)?);
        self.device.run(&session.plan, &mut |d| {
            model.forward(d, shape, bank.as_ref(), outputs);
        })?;
        self.stage_times.clear();
        let seconds = self.device.stage_seconds();
        match self.device.whole_seconds() {
            Some(whole) => self.stage_times.push(("frame", Duration::from_secs_f64(whole))),
            None => self
                .stage_times
                .extend(Stage::ALL[1..].iter().map(|s| (s.name(), Duration::from_secs_f64(seconds[*s as usize])))),
        }
        Ok(session.io)
    }

    fn frame_shape(&self, frames: &[Frame<'_>]) -> Result<FrameShape> {
        let first = frames.first().ok_or_else(|| Error::Size("a batch of no frames".to_owned()))?;
        for frame in frames {
            let (Frame { width, height, rgb }, expected) = (frame, first.width.checked_mul(first.height));
            if (*width, *height) != (first.width, first.height) {
                let (w, h) = (first.width, first.height);
                return Err(Error::Size(format!(
                    "a frame of {width}×{height} in a batch of {w}×{h}: one size a batch"
                )));
            }
            if expected.and_then(|pixels| pixels.checked_mul(3)) != Some(rgb.len()) || rgb.is_empty() {
                let found = rgb.len();
                let need = "width × height × 3 bytes of RGB, at least one pixel";
                return Err(Error::Size(format!("a frame of {width}×{height} with {found} bytes: expected {need}")));
            }
        }
        let photo = (first.height, first.width);
        let network = self.size.network_size(photo.0, photo.1)?;
        Ok(FrameShape { batch: frames.len(), photo, network })
    }

    /// Makes the session for this frame the last of the list, planning it if it is new.
    fn session(&mut self, shape: FrameShape, bank: Option<Similarity>, outputs: Outputs, keep: &[&str]) -> Result<()> {
        self.device.check()?;
        let labels = bank.map_or(0, |bank| bank.labels.weight.n);
        let same = |key: &Key| {
            (key.shape, key.labels, key.outputs) == (shape, labels, outputs)
                && key.keep.iter().map(String::as_str).eq(keep.iter().copied())
        };
        if let Some(at) = self.sessions.iter().position(|session| same(&session.key)) {
            self.sessions[at..].rotate_left(1);
            return Ok(());
        }
        let mut io = None;
        let plan = plan::record(self.device.activation_bytes(), keep, |d| {
            io = Some(self.model.forward(d, shape, bank.as_ref(), outputs))
        });
        let io = io.expect("recording runs the forward pass");
        self.reserve(&plan)?;
        let io = FrameIo {
            photo: plan.placed(io.photo),
            palette: io.palette.map(|buf| plan.placed(buf)),
            points: io.points.map(|buf| plan.placed(buf)),
            mask: io.mask.map(|buf| plan.placed(buf)),
            best: io.best.map(|buf| plan.placed(buf)),
            not_finite: io.not_finite.map(|buf| plan.placed(buf)),
            overlay: io.overlay.map(|buf| plan.placed(buf)),
            scores: io.scores.map(|buf| plan.placed(buf)),
            embedding: io.embedding.map(|buf| plan.placed(buf)),
            sampled: io.sampled.map(|buf| plan.placed(buf)),
        };
        let keep = keep.iter().map(|name| (*name).to_owned()).collect();
        if self.sessions.len() == SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push(Session { key: Key { shape, labels, outputs, keep }, plan, io });
        Ok(())
    }

    /// Memory for passes of this plan.
    fn reserve(&mut self, plan: &Plan) -> Result<()> {
        let reserved = self.device.reserve(plan);
        if reserved.is_err() {
            // What the other sessions had was given up for this one.
            self.sessions.clear();
        }
        reserved
    }

    /// A result of the last pass, whole.
    fn read_all<T: bytemuck::Pod>(&mut self, result: Option<Buf>) -> Result<Vec<T>> {
        let result = result.expect("a pass has what was asked of it");
        let mut data = vec![T::zeroed(); result.len()];
        let plan = &self.sessions.last().expect("a session has just run").plan;
        self.device.read(plan, result, 0, bytemuck::cast_slice_mut(&mut data))?;
        Ok(data)
    }

    fn read_embeddings(&mut self, result: Option<Buf>) -> Result<Vec<f32>> {
        let mut data: Vec<f32> = self.read_all(result)?;
        self.unscale("head1", &mut data);
        self.check_embeddings(&data)?;
        Ok(data)
    }

    /// Values of the buffer of this name as the network defines them.
    fn unscale(&self, buffer: &str, data: &mut [f32]) {
        let scale = self.model.scale;
        if scale != 1.0 && scale::scales(buffer) {
            data.iter_mut().for_each(|value| *value /= scale);
        }
    }

    fn read_mask(&mut self, io: FrameIo, b: usize, segmentation: &mut Segmentation) -> Result<()> {
        let mask = io.mask.expect("a pass for a mask has a mask");
        let [_, height, width, _] = mask.shape;
        (segmentation.height, segmentation.width) = (height, width);
        segmentation.mask.resize(height * width, 0);
        let plan = &self.sessions.last().expect("a session has just run").plan;
        let labels = &mut segmentation.mask;
        if mask.element == Element::U16 {
            return self.device.read(plan, mask, b * height * width * 2, bytemuck::cast_slice_mut(labels));
        }
        let first = b * height * width;
        let widen =
            |bytes: &[u8], labels: &mut [u16]| labels.iter_mut().zip(bytes).for_each(|(l, b)| *l = u16::from(*b));
        if let Some(bytes) = self.device.output_memory(plan, mask)? {
            widen(&bytes[first..], labels);
            return Ok(());
        }
        // Into the second half of the labels' own memory, then over it from the front: a byte is read before it is overwritten.
        let pixels = labels.len();
        self.device.read(plan, mask, first, &mut bytemuck::cast_slice_mut(labels)[pixels..])?;
        for i in 0..pixels {
            labels[i] = u16::from(bytemuck::cast_slice::<u16, u8>(labels)[pixels + i]);
        }
        Ok(())
    }

    fn read_scores(&mut self, io: FrameIo) -> Result<Scores> {
        let scores = io.scores.expect("a pass for scores has scores");
        let [_, labels, height, width] = scores.shape;
        let data: Vec<f32> = self.read_all(io.scores)?;
        self.check_scores(&data, height * width)?;
        Ok(Scores { labels, height, width, data })
    }

    /// The text tower on a batch of texts.
    fn encode(&mut self, texts: &[(String, Tokens)]) -> Result<Vec<Box<[f32]>>> {
        let longest = texts.iter().map(|(_, tokens)| tokens.ids.len()).max().unwrap_or(0);
        let n = texts.len();
        let (mut ids, mut ends) = (vec![0u32; n * longest], vec![0u32; n]);
        for ((row, end), (_, tokens)) in ids.chunks_exact_mut(longest).zip(&mut ends).zip(texts) {
            row[..tokens.ids.len()].copy_from_slice(&tokens.ids);
            *end = tokens.end() as u32;
        }
        let mut io = None;
        let plan =
            plan::record(self.device.activation_bytes(), &[], |d| io = Some(self.model.text.forward(d, n, longest)));
        let io = io.expect("recording runs the forward pass");
        self.reserve(&plan)?;
        self.buffered = None;
        self.device.write(&plan, plan.placed(io.ids), 0, bytemuck::cast_slice(&ids))?;
        self.device.write(&plan, plan.placed(io.ends), 0, bytemuck::cast_slice(&ends))?;
        let text = &self.model.text;
        self.device.run(&plan, &mut |d| {
            text.forward(d, n, longest);
        })?;
        self.text_time += Duration::from_secs_f64(self.device.stage_seconds()[Stage::Text as usize]);
        let mut features = vec![0.0f32; io.features.len()];
        self.device.read(&plan, plan.placed(io.features), 0, bytemuck::cast_slice_mut(&mut features))?;
        let features = features.chunks_exact(io.features.channels());
        features.clone().zip(texts).try_for_each(|(features, (text, _))| self.check_features(text, features))?;
        Ok(features.map(Into::into).collect())
    }
}

/// The device that was chosen, with room for a model's weights, and why it is another than one might expect.
fn device(options: &Options, weights: &Loader<'_>) -> Result<(Box<dyn Executor>, Option<String>)> {
    let with_room = |mut device: Box<dyn Executor>| {
        device.expect(weights.matrices(), weights.vectors())?;
        Ok(device)
    };
    let cpu = || with_room(Box::new(Cpu::new(options.threads)?));
    let cuda = |found: Result<Cuda>| {
        let cuda = found?;
        let emulated = cuda.info().is_virtual;
        let note = emulated.then(|| "a virtual GPU: all times are the emulation's, not a GPU's".to_owned());
        let note = note.or_else(|| cuda.refused());
        Ok((with_room(Box::new(cuda))?, note))
    };
    let or_cpu = |error: Error| error.with("; --device cpu needs none");
    let waiting = Waiting { asleep: options.wait == Wait::Block, limit: options.timeout };
    match options.device {
        DeviceChoice::Cpu => Ok((cpu()?, None)),
        DeviceChoice::Cuda(None) => cuda(Cuda::find(true, waiting)).map_err(or_cpu),
        DeviceChoice::Cuda(Some(ordinal)) => cuda(Cuda::open(ordinal, waiting)).map_err(or_cpu),
        DeviceChoice::Auto => cuda(Cuda::find(false, waiting))
            .or_else(|reason| Ok((cpu()?, Some(format!("{reason}: running on the CPU"))))),
    }
}
