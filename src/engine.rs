//! The engine: a model on a device, a list of labels, and one planned session per (size, labels, outputs).
//!
//! It is one file so that the ways in stand together, each with its errors and an example that runs.

mod finite;
mod fork_guard;
mod placement;
mod results;
mod session;
mod templates;
mod texts;
mod types;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use half::f16;
use half::slice::HalfFloatSliceExt;

use self::fork_guard::ForkGuard;
use self::session::{HostInputs, Session};
use self::texts::Text;
pub use self::types::{Alpha, Extras, Frame, LongLabels, Options, Scores, Segmentation, Segmented, Tap, Wait};
use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::device::Calls;
pub use crate::device::DeviceChoice;
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::image::decode::Photo;
use crate::labels::{self, List};
use crate::memory::{self, Budget, Part};
use crate::model::config::Config;
use crate::model::detect::{HeadBlockOverride, detect};
use crate::model::weights::Loader;
use crate::model::{FrameShape, Model, Outputs};
use crate::ops::{Buf, Element, Stage, similarity};
use crate::plan_report::{OpTiming, PlanOp};
use crate::points;
use crate::protocol::Size;
use crate::tokenizer::Tokenizer;
use crate::unit_vector::unit;

/// Text features kept for words that come back.
const TEXTS: usize = 16_384;

/// What most frames are for.
const MASK: Outputs = Outputs {
    mask: true,
    scores: false,
    probabilities: false,
    best: false,
    overlay: false,
    embedding: false,
    points: 0,
};

/// A model, ready to segment. It may move between threads; each engine has its own memory. In a process that was forked from
/// the one that made it, each call is an error.
///
/// ```
/// use lseg_fast::{Engine, Frame, Options};
///
/// # fn main() -> lseg_fast::Result<()> {
/// let mut engine = Engine::load_demo(&Options::default())?;
/// engine.set_size("96x96".parse()?);
/// engine.set_labels(&["dog", "sky", "other"])?;
///
/// let (width, height) = (120, 80);
/// let rgb = [90, 160, 240].repeat(width * height);
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
    device: ForkGuard,
    description: String,
    note: Option<String>,
    tokenizer: Tokenizer,
    size: Size,
    /// Whether that is what the model says, and nobody asked for.
    is_own_size: bool,
    budget: Budget,
    labels: Vec<String>,
    long_labels: LongLabels,
    label_notes: Vec<String>,
    bank: Option<similarity::Weights>,
    /// `[labels, embed_dim]`: what the bank was made of, of any length.
    features: Vec<f32>,
    templates: Vec<String>,
    /// Labels seen, in their templates.
    texts: HashMap<String, Text>,
    /// The most recently used last.
    sessions: Vec<Session>,
    stage_times: Vec<(&'static str, Duration)>,
    text_time: Duration,
    /// The size (width, height) of a frame that the caller writes or has written, and its memory where the device has none.
    buffered: Option<(usize, usize)>,
    own_buffer: Vec<u8>,
}

impl Engine {
    /// Loads a converted `.safetensors` or a published checkpoint onto a device.
    ///
    /// # Errors
    /// A file that is missing, damaged or no LSeg; a tensor of the wrong shape or type, or with values that are no finite
    /// numbers; a device that is not there or is in use; [`Error::Memory`] where the weights need more than is free or
    /// allowed; [`Error::NotFinite`] for weights beyond float16 on a GPU that was asked for.
    pub fn load(path: &Path, options: &Options) -> Result<Engine> {
        Self::from_checkpoint(&Checkpoint::open(path)?, options)
    }

    /// Loads the small model that is part of the program ([`demo`]).
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
        let config = detect(checkpoint, &HeadBlockOverride::default())?;
        let size = config
            .default_size
            .parse()
            .map_err(|e| Error::config(checkpoint.path(), format!("default_size of its configuration: {e}")))?;
        let tokenizer = Tokenizer::new(config.text.vocab, config.text.context)?;
        let mut shapes = Loader::shapes(checkpoint);
        let in_shape = Model::load(&config, &mut shapes)?;
        let (model, (device, budget, note)) = placement::load_on_device(options, (&in_shape, &shapes), |device| {
            Model::load(&config, &mut Loader::new(checkpoint, device))
        })?;
        checkpoint.unchanged()?;
        Ok(Engine {
            model,
            description: device.describe(),
            device: ForkGuard::new(device),
            note,
            tokenizer,
            size,
            is_own_size: true,
            budget,
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
            buffered: None,
            own_buffer: Vec::new(),
        })
    }

    /// What the model is made of.
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

    /// The labels that were set last, in the order of the mask's values; none before [`Engine::set_labels`].
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The network's input size for the frames to come; the model's own until this is called, which may have 2,048 a side
    /// at most.
    pub fn set_size(&mut self, size: Size) {
        self.size = size;
        self.is_own_size = false;
    }

    /// How much memory this engine may have and holds: weights, arena and labels. Photos can ask it for room.
    pub fn memory(&self) -> &Budget {
        &self.budget
    }

    /// Time of each stage of the last frame, by the device's clock. A GPU replays a frame of a size, labels and outputs
    /// that it has seen twice as one piece, of which only the whole is known: "frame".
    pub fn stage_times(&self) -> &[(&'static str, Duration)] {
        &self.stage_times
    }

    /// Seconds of the last frame by the device's own clock, its copies included, where it ran as one piece.
    pub fn frame_seconds(&self) -> Option<f64> {
        self.device.times().whole
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
    /// ([`Engine::set_long_labels`]), a label longer than the text tower's context. [`Error::Template`] for more or longer
    /// texts in templates than are read. [`Error::NotFinite`] for a label that the text tower makes no finite numbers of, and
    /// [`Error::Memory`] where they need more than is free or allowed. The old labels then stay. [`Error::Device`] where a GPU
    /// fails; there may be no labels then.
    pub fn set_labels<S: AsRef<str>>(&mut self, labels: &[S]) -> Result<()> {
        self.set_list(&labels::checked(labels)?)
    }

    /// As [`Engine::set_labels`]; errors name the places in the list's file.
    ///
    /// # Errors
    /// As [`Engine::set_labels`].
    pub fn set_list(&mut self, list: &List) -> Result<()> {
        self.set_list_watched(list, &mut |_, _| ())
    }

    /// As [`Engine::set_list`]; of the texts that this engine has not encoded before, `progress` is told how many are done and
    /// how many they are, every so often.
    ///
    /// # Errors
    /// As [`Engine::set_labels`].
    pub fn set_list_watched(&mut self, list: &List, progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
        self.device.check()?;
        self.text_time = Duration::ZERO;
        let texts = templates::fill(&self.templates, list)?;
        let unknown = self.tokens_of_unknown(&texts)?;
        let notes = self.check_tokens(list, &texts, &unknown)?;
        let need = self.need_of_labels(texts.len(), unknown.len());
        self.budget.hold(Part::Labels, &format!("a list of {} labels", texts.len()), need, memory::FOR_LABELS)?;
        self.encode_unknown(&texts, unknown, progress)?;
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
    /// [`Error::Template`] if one has no `{}` or is longer than a kilobyte. The old templates then stay.
    pub fn set_templates(&mut self, templates: &[String]) -> Result<()> {
        templates::check(templates)?;
        self.templates = templates.to_vec();
        Ok(())
    }

    /// The labels' embeddings as the pixels are compared with them, `[labels, embed_dim]`: unit vectors (a zero vector
    /// stays zero).
    pub fn label_embeddings(&self) -> Vec<f32> {
        self.features.chunks_exact(self.model.config.embed_dim).flat_map(unit).collect()
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
    /// pixels, or too large; [`Error::Memory`] where it needs more than is free or allowed; [`Error::NotFinite`] where a
    /// pixel's winning score is no finite number; [`Error::Device`] where a GPU fails.
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

    /// Memory for the next frame, `height · width · 3` bytes of RGB. On a GPU it is what the device takes frames from, so that a
    /// camera's driver or a decoder that writes there saves a copy; the CPU copies it as any frame. What is in it stays, until this engine sees other frames or other words; to be
    /// segmented by [`Engine::segment_buffered`].
    ///
    /// ```
    /// use lseg_fast::{Engine, Options, Segmentation};
    ///
    /// # fn main() -> lseg_fast::Result<()> {
    /// let mut engine = Engine::load_demo(&Options::default())?;
    /// engine.set_size("64x64".parse()?);
    /// engine.set_labels(&["grass", "other"])?;
    /// let mut segmentation = Segmentation::default();
    /// for shade in [40, 80, 120] {
    ///     // Here a camera's driver would write; nothing is allocated from the second frame on.
    ///     engine.frame_buffer(96, 64)?.fill(shade);
    ///     engine.segment_buffered(&mut segmentation)?;
    ///     assert_eq!(segmentation.mask.len(), 96 * 64);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Engine::segment`].
    pub fn frame_buffer(&mut self, width: usize, height: usize) -> Result<&mut [u8]> {
        let (photo, bytes) = self.buffer_session(width, height)?;
        self.buffered = Some((width, height));
        let program = &mut self.sessions.last_mut().expect("the session in use is the last").program;
        if self.device.input_memory(program, photo)?.is_some() {
            return Ok(self.device.input_memory(program, photo)?.expect("it was there"));
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
        let program = &mut self.sessions.last_mut().expect("the session in use is the last").program;
        if self.device.input_memory(program, photo)?.is_none() {
            self.device.write(program, photo, 0, &self.own_buffer)?;
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
        let shape = FrameShape { batch: 1, photo, network: self.network_size(photo)? };
        self.session(shape, bank, MASK, &[])?;
        Ok((self.sessions.last().expect("the session in use is the last").io.photo, bytes))
    }

    /// Several photos of one size at once.
    ///
    /// ```
    /// use lseg_fast::{Engine, Frame, Options};
    ///
    /// # fn main() -> lseg_fast::Result<()> {
    /// let mut engine = Engine::load_demo(&Options::default())?;
    /// engine.set_size("64x64".parse()?);
    /// engine.set_labels(&["snow", "night sky", "other"])?;
    /// let (white, black) = (vec![250; 64 * 64 * 3], vec![10; 64 * 64 * 3]);
    /// let frames = [&white, &black].map(|rgb| Frame { width: 64, height: 64, rgb });
    /// let [first, second] = &engine.segment_batch(&frames)?[..] else { unreachable!("one for each frame") };
    /// assert_eq!(first.mask.len(), second.mask.len());
    /// # Ok(())
    /// # }
    /// ```
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
        self.read_scores(io.scores)
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
        self.write_frame(frame, extras)?;
        self.segment_written(extras)
    }

    /// As [`Engine::segment_with`], of a photo that is given away: its memory is free before the pass begins. With an overlay
    /// that is 9 bytes a pixel on the CPU in the place of 12 (and 4 of them the engine's own).
    ///
    /// # Errors
    /// As [`Engine::segment_with`].
    pub fn segment_photo(&mut self, photo: Photo, extras: Extras<'_>) -> Result<Segmented> {
        let Photo { width, height, rgb } = photo;
        self.write_frame(&Frame { width, height, rgb: &rgb }, extras)?;
        drop(rgb);
        self.segment_written(extras)
    }

    /// Brings over what a pass with these extras takes in.
    fn write_frame(&mut self, frame: &Frame<'_>, extras: Extras<'_>) -> Result<()> {
        let Extras { scores, probabilities, best, colours, alpha } = extras;
        let overlay = colours.is_some();
        let palette: Vec<[u8; 4]> = colours.unwrap_or_default().iter().map(|[r, g, b]| [*r, *g, *b, alpha.0]).collect();
        if overlay && palette.len() != self.labels.len() {
            let (colours, labels) = (palette.len(), self.labels.len());
            return Err(Error::Labels(format!("{colours} colours for {labels} labels: give one a label")));
        }
        let outputs = Outputs { mask: true, scores, probabilities, best, overlay, ..Outputs::default() };
        let inputs = HostInputs { palette: &palette, ..HostInputs::default() };
        self.write_inputs(std::slice::from_ref(frame), inputs, outputs, &[])
    }

    /// The pass whose inputs [`Engine::write_frame`] has brought over, and its results.
    fn segment_written(&mut self, extras: Extras<'_>) -> Result<Segmented> {
        let io = self.run_session()?;
        self.check_winners(io)?;
        let mut segmentation = Segmentation::default();
        self.read_mask(io, 0, &mut segmentation)?;
        Ok(Segmented {
            segmentation,
            scores: extras.scores.then(|| self.read_scores(io.scores)).transpose()?,
            probabilities: extras.probabilities.then(|| self.read_scores(io.probabilities)).transpose()?,
            best: extras.best.then(|| self.read_all(io.best)).transpose()?,
            overlay: extras.colours.map(|_| self.read_all(io.overlay)).transpose()?,
        })
    }

    /// The pixels' embeddings at half the network's size. Needs no labels.
    ///
    /// ```
    /// use lseg_fast::embedding::At;
    /// use lseg_fast::image::npy::Dtype;
    /// use lseg_fast::{Engine, Frame, Options};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut engine = Engine::load_demo(&Options::default())?;
    /// engine.set_size("64x96".parse()?);
    /// let rgb = vec![128; 96 * 64 * 3];
    /// let frame = Frame { width: 96, height: 64, rgb: &rgb };
    /// let embedding = engine.embed(&frame)?;
    /// assert_eq!((embedding.height, embedding.width, embedding.channels), (32, 48, engine.config().embed_dim));
    ///
    /// let mut npy = Vec::new(); // any `Write`: a file that NumPy reads
    /// embedding.write(&mut npy, At::Half, Dtype::F16, true)?;
    /// let two = engine.embed_at(&frame, &[[10.0, 20.0], [47.5, 31.5]])?;
    /// assert_eq!(two.len(), 2 * embedding.channels);
    /// # Ok(())
    /// # }
    /// ```
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
        let inputs = HostInputs { points, ..HostInputs::default() };
        let io = self.run_with_inputs(std::slice::from_ref(frame), inputs, outputs, &[])?;
        self.read_embeddings(io.sampled)
    }

    /// Whether the frames to come measure each operation ([`Engine::timings`]).
    pub fn record_times(&mut self, on: bool) {
        self.sessions.clear();
        self.device.record_times(on);
    }

    /// Each operation of the last frame with its time, as executed; empty where times were not recorded.
    pub fn timings(&self) -> Vec<OpTiming> {
        let steps = self.sessions.last().map_or(&[][..], |session| &session.program.plan().steps);
        // Another pass (labels, the matmul rate) may have come after the frame.
        let seconds =
            Some(self.device.times().steps).filter(|seconds| seconds.len() == steps.len()).unwrap_or_default();
        let activation = self.device.activation_bytes();
        let timing = |(step, seconds): (_, &f64)| OpTiming { op: PlanOp::of(step, activation), seconds: *seconds };
        steps.iter().zip(seconds).map(timing).collect()
    }

    /// The device, for passes that are no frames. They may take the memory of frames that were planned, which are forgotten.
    #[cfg(feature = "bench")]
    pub(crate) fn device_for_passes(&mut self) -> Result<&mut dyn crate::device::Device> {
        self.device.check()?;
        Ok(&mut *self.device)
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
        let program = &self.sessions.last().expect("a session has just run").program;
        let bufs: Vec<(&str, Buf)> =
            names.iter().flat_map(|name| program.plan().named(name).map(|buf| (*name, buf))).collect();
        let device = &mut self.device;
        let read = |(name, buf): (&str, Buf)| {
            let mut data = vec![0.0; buf.len()];
            if buf.element == Element::Activation && device.activation_bytes() == size_of::<f16>() {
                let mut halves = vec![f16::ZERO; buf.len()];
                device.read(program, buf, 0, bytemuck::cast_slice_mut(&mut halves))?;
                halves.convert_to_f32_slice(&mut data);
            } else {
                device.read(program, buf, 0, bytemuck::cast_slice_mut(&mut data))?;
            }
            Ok(Tap { name: name.to_owned(), shape: buf.shape, data })
        };
        let mut taps: Vec<Tap> = bufs.into_iter().map(read).collect::<Result<_>>()?;
        taps.iter_mut().for_each(|tap| self.unscale(&tap.name, &mut tap.data));
        Ok(taps)
    }
}
