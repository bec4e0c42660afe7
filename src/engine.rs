//! The ways in: a [`Network`] (weights on a device, shared), [`Labels`] (words, made beside running frames), a [`Lane`] (the flow of
//! one camera), and the [`Engine`], which is one of each with the words that most programs need.

mod batch;
mod collect;
mod device_results;
mod finite;
mod flight;
mod fork_guard;
mod frame_buffer;
mod label_set;
mod label_vectors;
mod lane;
mod network;
mod placement;
mod places;
mod resized;
mod session;
mod shapes;
mod template_lists;
mod templates;
mod texts;
mod types;
mod wanted;
pub(crate) mod whole;
mod window_report;
pub(crate) mod window_tables;

use std::path::Path;
use std::time::Duration;

pub use self::device_results::{DeviceResults, DeviceTensor, Progress, TensorElement};
pub use self::flight::Ticket;
pub(crate) use self::frame_buffer::{FrameBuffer, FrameBuffers};
pub use self::label_set::{LabelSlot, Labels};
pub use self::lane::Lane;
pub use self::network::Network;
pub use self::resized::Resized;
pub use self::template_lists::TemplateList;
pub use self::types::{LabelOptions, LongLabels, Options, Scores, Segmentation, Tap, Wait};
#[cfg(feature = "cli")]
pub(crate) use self::types::{shares, unlabelled};
pub use self::wanted::{Alpha, Results, Wanted};
pub use self::whole::{Stripe, Whole, WholeOptions};
#[doc(hidden)]
pub use self::window_report::{ScaleReport, WindowReport, plan_windows};
use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::device::Calls;
pub use crate::device::DeviceChoice;
pub use crate::device::cuda::ContextKind;
use crate::embedding::{At, Embedding};

use crate::error::Result;
use crate::image::decode::Photo;
use crate::image::npy::Dtype;
use crate::labels::{self, List};
use crate::memory::Budget;
use crate::model::config::Config;
pub use crate::model::{EmbeddingForm, Layout, MapSize, Output, Threshold, UNLABELLED, UNLABELLED_8};
use crate::pixels::{Format, Image};
use crate::plan_report::OpTiming;
use crate::protocol::{Protocol, Size};

/// A model, ready to segment: a [`Network`], one [`Lane`] of it and its words. It may move between threads. In a process that was
/// forked from the one that made it, each call is an error.
///
/// ```
/// use lseg_fast::{Engine, Image, Options};
///
/// # fn main() -> lseg_fast::Result<()> {
/// let mut engine = Engine::load_demo(&Options::default())?;
/// engine.set_size("96x96".parse()?);
/// engine.set_labels(&["dog", "sky", "other"])?;
///
/// let (width, height) = (120, 80);
/// let rgb = [90, 160, 240].repeat(width * height);
/// let segmentation = engine.segment(&Image::rgb8(width, height, &rgb))?;
/// assert_eq!(segmentation.mask.len(), width * height);
///
/// for (label, share) in engine.labels().iter().zip(segmentation.shares(3)) {
///     println!("{label}: {:.1} %", 100.0 * share);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Engine {
    network: Network,
    lane: Lane,
    /// Of the next list of labels.
    options: LabelOptions,
    labels: Option<Labels>,
    /// Whose memory serves again.
    results: Results,
}

impl Engine {
    /// Loads a converted `.safetensors` or a published checkpoint onto a device.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn load(path: &Path, options: &Options) -> Result<Engine> {
        Self::from_checkpoint(&Checkpoint::open(path)?, options)
    }

    /// Loads the small model that is part of the program ([`demo`]).
    ///
    /// # Errors
    /// As [`Network::load_demo`].
    pub fn load_demo(options: &Options) -> Result<Engine> {
        Self::from_checkpoint(&demo::checkpoint()?, options)
    }

    /// Loads an open checkpoint onto a device.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn from_checkpoint(checkpoint: &Checkpoint, options: &Options) -> Result<Engine> {
        Self::over(Network::from_checkpoint(checkpoint, options)?)
    }

    /// A lane of its own on a network that others may use too.
    ///
    /// # Errors
    /// As [`Network::lane`].
    pub fn over(network: Network) -> Result<Engine> {
        let lane = network.lane()?;
        Ok(Engine { network, lane, options: LabelOptions::default(), labels: None, results: Results::default() })
    }

    /// The weights, for lanes beside this engine's.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The flow of this engine's frames.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// As [`Engine::lane`], to be used: [`Lane::submit`], [`Lane::inspect`].
    pub fn lane_mut(&mut self) -> &mut Lane {
        &mut self.lane
    }

    /// What the model is made of.
    pub fn config(&self) -> &Config {
        self.network.config()
    }

    /// "cpu, 2 threads"
    pub fn device(&self) -> &str {
        self.network.device()
    }

    /// Why the choice of the device fell as it did, where that needs saying.
    pub fn note(&self) -> Option<&str> {
        self.network.note()
    }

    /// How much memory this engine's network may have and holds. Photos can ask it for room.
    pub fn memory(&self) -> &Budget {
        self.network.memory()
    }

    /// As [`Lane::set_size`].
    pub fn set_size(&mut self, size: Size) {
        self.lane.set_size(size);
    }

    /// The words to look for. Labels that were encoded before cost nothing again.
    ///
    /// # Errors
    /// As [`Network::labels`], and the old labels then stay; a label longer than the text tower's context is no error where it is to
    /// be cut ([`Engine::set_long_labels`]).
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

    /// As [`Engine::set_list`]; of the texts that were not encoded before, `progress` is told how many are done and how many they
    /// are, every so often.
    ///
    /// # Errors
    /// As [`Engine::set_labels`].
    pub fn set_list_watched(&mut self, list: &List, progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
        let labels = self.network.labels_of(list, &self.options, progress)?;
        self.lane.set_labels(&labels)?;
        self.labels = Some(labels);
        Ok(())
    }

    /// What to do with labels that are too long for the text tower, in the next [`Engine::set_labels`].
    pub fn set_long_labels(&mut self, long_labels: LongLabels) {
        self.options.long_labels = long_labels;
    }

    /// Texts around the labels, for the next [`Engine::set_labels`] ([`LabelOptions::templates`]).
    ///
    /// # Errors
    /// [`Error::Template`](crate::Error::Template) if one has no `{}` or is longer than a kilobyte. The old templates then stay.
    pub fn set_templates(&mut self, templates: &[String]) -> Result<()> {
        self.set_template_list(&TemplateList { templates: templates.to_vec(), ..TemplateList::default() })
    }

    /// As [`Engine::set_templates`], of a list whose means may keep their length.
    ///
    /// # Errors
    /// As there.
    pub fn set_template_list(&mut self, list: &TemplateList) -> Result<()> {
        templates::check(&list.templates)?;
        let TemplateList { templates, keeps_length, spares_last } = list.clone();
        let long_labels = self.options.long_labels;
        self.options = LabelOptions { templates, keeps_length, spares_last, long_labels };
        Ok(())
    }

    /// How the next list of words becomes labels: as templates and long labels were set.
    pub fn label_options(&self) -> &LabelOptions {
        &self.options
    }

    /// The labels that were set last, in the order of the mask's values; none before [`Engine::set_labels`].
    pub fn labels(&self) -> &[String] {
        self.labels.as_ref().map_or(&[], Labels::names)
    }

    /// Which of the labels are cut, and where; one line each.
    pub fn label_notes(&self) -> &[String] {
        self.labels.as_ref().map_or(&[], Labels::notes)
    }

    /// The labels' embeddings as the pixels are compared with them, `[labels, embed_dim]`: unit vectors (a zero vector
    /// stays zero).
    pub fn label_embeddings(&self) -> Vec<f32> {
        self.labels.as_ref().map_or_else(Vec::new, Labels::embeddings)
    }

    /// Wall time of the text tower in the last [`Engine::set_labels`]; zero where every label was known.
    pub fn text_time(&self) -> Duration {
        self.labels.as_ref().map_or(Duration::ZERO, Labels::text_time)
    }

    /// Any outputs of some frames of one size, of one pass: what all words below are made of.
    ///
    /// ```
    /// use lseg_fast::{Engine, Image, Options, Output, Wanted};
    ///
    /// # fn main() -> lseg_fast::Result<()> {
    /// let mut engine = Engine::load_demo(&Options::default())?;
    /// engine.set_size("64x64".parse()?);
    /// engine.set_labels(&["snow", "night sky", "other"])?;
    /// let rgb = vec![250; 64 * 64 * 3];
    /// let frame = Image::rgb8(64, 64, &rgb);
    /// let results = engine.run(&[frame], Wanted::MASK.and(Output::Best))?;
    /// assert_eq!(results.values(Output::Best, 0).unwrap().len(), results.mask(0).unwrap().len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn run(&mut self, frames: &[Image<'_>], wanted: Wanted<'_>) -> Result<Results> {
        self.lane.run(frames, wanted)
    }

    /// As [`Engine::run`], into memory that is used again.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn run_into(&mut self, frames: &[Image<'_>], wanted: Wanted<'_>, results: &mut Results) -> Result<()> {
        self.lane.run_into(frames, wanted, results)
    }

    /// As [`Lane::run_on_device`].
    ///
    /// # Errors
    /// As [`Lane::run_on_device`].
    pub fn run_on_device(&mut self, frames: &[Image<'_>], wanted: Wanted<'_>) -> Result<DeviceResults> {
        self.lane.run_on_device(frames, wanted)
    }

    /// As [`Lane::set_device_places`].
    pub fn set_device_places(&mut self, places: usize) {
        self.lane.set_device_places(places);
    }

    /// As [`Lane::cuda_stream`].
    pub fn cuda_stream(&self) -> Option<u64> {
        self.lane.cuda_stream()
    }

    /// As [`Engine::run`], of a photo that is given away ([`Lane::run_photo`]).
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn run_photo(&mut self, photo: Photo, wanted: Wanted<'_>) -> Result<Results> {
        self.lane.run_photo(photo, wanted)
    }

    /// As [`Engine::run_photo`], of a photo that is taken as a protocol says ([`Lane::run_whole`]).
    ///
    /// # Errors
    /// As [`Lane::run_whole`].
    pub fn run_whole(
        &mut self,
        photo: Photo,
        protocol: &Protocol,
        wanted: Wanted<'_>,
        options: WholeOptions,
    ) -> Result<Results> {
        self.lane.run_whole(photo, protocol, wanted, options)
    }

    /// As [`Lane::whole`].
    ///
    /// # Errors
    /// As there.
    pub fn whole(
        &mut self,
        photo: Photo,
        protocol: &Protocol,
        wanted: Wanted<'_>,
        dtype: Option<Dtype>,
        options: WholeOptions,
    ) -> Result<Whole<'_>> {
        self.lane.whole(photo, protocol, wanted, dtype, options)
    }

    /// Each pixel's label: [`Output::Mask`] alone.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn segment(&mut self, frame: &Image<'_>) -> Result<Segmentation> {
        let mut segmentation = Segmentation::default();
        self.segment_into(frame, &mut segmentation)?;
        Ok(segmentation)
    }

    /// As [`Engine::segment`], into memory that is used again: from the second frame of a size on nothing is allocated,
    /// but for a 1.5 KB block of the thread pool's queue every 63 frames.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn segment_into(&mut self, frame: &Image<'_>, segmentation: &mut Segmentation) -> Result<()> {
        let Engine { lane, results, .. } = self;
        let frames = std::slice::from_ref(frame);
        results.mask_into(segmentation, |results| lane.run_into(frames, Wanted::MASK, results))
    }

    /// Memory for the next frame, [`Format::bytes`] bytes. On a GPU it is what the device takes frames from, so that a
    /// camera's driver or a decoder that writes there saves a copy; the CPU copies it as any frame. What is in it stays until this
    /// engine sees another frame; to be segmented by [`Engine::segment_buffered`].
    ///
    /// ```
    /// use lseg_fast::{Engine, Format, Options, Segmentation};
    ///
    /// # fn main() -> lseg_fast::Result<()> {
    /// let mut engine = Engine::load_demo(&Options::default())?;
    /// engine.set_size("64x64".parse()?);
    /// engine.set_labels(&["grass", "other"])?;
    /// let mut segmentation = Segmentation::default();
    /// for shade in [40, 80, 120] {
    ///     // Here a camera's driver would write; nothing is allocated from the second frame on.
    ///     engine.frame_buffer(Format::Rgb8, 96, 64)?.fill(shade);
    ///     engine.segment_buffered(&mut segmentation)?;
    ///     assert_eq!(segmentation.mask.len(), 96 * 64);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn frame_buffer(&mut self, format: Format, width: usize, height: usize) -> Result<&mut [u8]> {
        self.lane.frame_buffer(format, width, height)
    }

    /// As [`Engine::segment_into`], of the frame in [`Engine::frame_buffer`].
    ///
    /// # Errors
    /// As [`Lane::run_buffered`].
    pub fn segment_buffered(&mut self, segmentation: &mut Segmentation) -> Result<()> {
        let Engine { lane, results, .. } = self;
        results.mask_into(segmentation, |results| lane.run_buffered(results))
    }

    /// The logits at the network's size: [`Output::Scores`] alone.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn scores(&mut self, frame: &Image<'_>) -> Result<Scores> {
        let mut results = self.lane.run(std::slice::from_ref(frame), Wanted::of(&[Output::Scores]))?;
        let [labels, height, width] = results.shape(Output::Scores).expect("what was wanted is there");
        Ok(Scores { labels, height, width, data: results.take_values(Output::Scores) })
    }

    /// The pixels' embeddings at half the network's size: [`Output::Embedding`] alone. Needs no labels.
    ///
    /// ```
    /// use lseg_fast::image::npy::Dtype;
    /// use lseg_fast::{Engine, Image, Options};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut engine = Engine::load_demo(&Options::default())?;
    /// engine.set_size("64x96".parse()?);
    /// let rgb = vec![128; 96 * 64 * 3];
    /// let frame = Image::rgb8(96, 64, &rgb);
    /// let embedding = engine.embed(&frame)?;
    /// assert_eq!((embedding.height, embedding.width, embedding.channels), (32, 48, engine.config().embed_dim));
    ///
    /// let mut npy = Vec::new(); // any `Write`: a file that NumPy reads
    /// embedding.write(&mut npy, Dtype::F16, true)?;
    /// let two = engine.embed_at(&frame, &[[10.0, 20.0], [47.5, 31.5]])?;
    /// assert_eq!(two.len(), 2 * embedding.channels);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn embed(&mut self, frame: &Image<'_>) -> Result<Embedding> {
        let mut results = self.lane.run(std::slice::from_ref(frame), Wanted::of(&[Output::Embedding]))?;
        let [height, width, channels] = results.shape(Output::Embedding).expect("what was wanted is there");
        Ok(Embedding { channels, height, width, data: results.take_values(Output::Embedding) })
    }

    /// The pixels' embeddings at the network's or the photo's size, resized by the device while they are written
    /// ([`Lane::embed_resized`]). Needs no labels.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn embed_resized(&mut self, frame: &Image<'_>, at: At, dtype: Dtype, normalise: bool) -> Result<Resized<'_>> {
        self.lane.embed_resized(frame, at, dtype, normalise)
    }

    /// The embeddings `[points, embed_dim]` at points (x, y) of the photo, in its pixels, the centre of pixel 0 at 0:
    /// the map of [`Engine::embed`] brought to the photo's size, read between its pixels bilinearly, but only the points'
    /// embeddings are formed: [`Output::Points`] alone. Needs no labels.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn embed_at(&mut self, frame: &Image<'_>, points: &[[f32; 2]]) -> Result<Vec<f32>> {
        if points.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = Wanted::default().at_points(points);
        Ok(self.lane.run(std::slice::from_ref(frame), wanted)?.take_values(Output::Points))
    }

    /// As [`Lane::stage_times`].
    pub fn stage_times(&self) -> &[(&'static str, Duration)] {
        self.lane.stage_times()
    }

    /// As [`Lane::frame_seconds`].
    pub fn frame_seconds(&self) -> Option<f64> {
        self.lane.frame_seconds()
    }

    /// As [`Lane::clock_mhz`].
    ///
    /// # Errors
    /// As [`Lane::clock_mhz`].
    pub fn clock_mhz(&mut self) -> Result<Option<f64>> {
        self.lane.clock_mhz()
    }

    /// As [`Lane::record_times`].
    pub fn record_times(&mut self, on: bool) {
        self.lane.record_times(on);
    }

    /// As [`Lane::timings`].
    pub fn timings(&self) -> Vec<OpTiming> {
        self.lane.timings()
    }

    /// As [`Lane::device_calls`].
    pub fn device_calls(&self) -> Calls {
        self.lane.device_calls()
    }
}
