//! What a frame is asked for, and what it yields.

use half::f16;

use super::label_set::Labels;
use super::types::Segmentation;
use crate::error::{Error, Result};
use crate::model::{EmbeddingForm, Output, Outputs, Threshold};
use crate::ops::Element;
use crate::points;

/// The labels that masks can tell apart, where no value is taken by what has none.
const MOST_LABELS: usize = 1 << 16;
const MOST_LABELS_8: usize = 1 << 8;

/// The weight of the labels' colours in an overlay, the photo's is what is left to 1. Kept in 128ths; a half by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alpha(pub(super) u8);

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

/// Any outputs, and what the host gives for them. All come of one pass.
///
/// ```
/// use lseg_fast::{Output, Wanted};
///
/// let wanted = Wanted::MASK.and(Output::Best).and(Output::Scores);
/// assert!(wanted.has(Output::Best) && !wanted.has(Output::Overlay));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wanted<'a> {
    pub(super) outputs: Outputs,
    pub(super) points: &'a [[f32; 2]],
    pub(super) colours: &'a [[u8; 3]],
    pub(super) alpha: Alpha,
}

impl<'a> Wanted<'a> {
    /// What most frames are for: [`Output::Mask`] alone.
    pub const MASK: Wanted<'static> = Wanted { outputs: Outputs::MASK, points: &[], colours: &[], alpha: Alpha(64) };

    /// These. Points and colours come by [`Wanted::at_points`] and [`Wanted::overlay`].
    pub fn of(outputs: &[Output]) -> Wanted<'a> {
        Wanted { outputs: Outputs::of(outputs), ..Wanted::default() }
    }

    /// This one too.
    pub fn and(self, output: Output) -> Self {
        Wanted { outputs: self.outputs.and(output), ..self }
    }

    /// [`Output::Overlay`] too: one RGB colour a label, such as [`palette`](crate::image::palette::palette) has, and their weight.
    pub fn overlay(self, colours: &'a [[u8; 3]], alpha: Alpha) -> Self {
        Wanted { outputs: self.outputs.and(Output::Overlay), colours, alpha, ..self }
    }

    /// [`Output::Points`] too: the embeddings at these (x, y), in the frame's pixels, the centre of pixel 0 at 0. The same for every
    /// frame of a batch.
    pub fn at_points(self, points: &'a [[f32; 2]]) -> Self {
        Wanted { outputs: self.outputs.at_points(points.len()), points, ..self }
    }

    /// Pixels whose confidence ([`Output::Confidence`], before it is rounded) is less have no label: [`UNLABELLED`](crate::UNLABELLED)
    /// in a mask, [`UNLABELLED_8`](crate::UNLABELLED_8) in one of bytes, the frame's own colour in an overlay.
    ///
    /// ```
    /// use lseg_fast::{Engine, Image, Options, Output, Threshold, UNLABELLED_8, Wanted};
    ///
    /// # fn main() -> lseg_fast::Result<()> {
    /// let mut engine = Engine::load_demo(&Options::default())?;
    /// engine.set_size("64x64".parse()?);
    /// engine.set_labels(&["grass", "sky", "other"])?;
    /// let rgb = vec![90; 64 * 64 * 3];
    /// let wanted = Wanted::of(&[Output::Mask8, Output::Confidence]).threshold(Threshold::new(0.5).unwrap());
    /// let results = engine.run(&[Image::rgb8(64, 64, &rgb)], wanted)?;
    /// let pixels = results.mask8(0).unwrap().iter().zip(results.confidence(0).unwrap());
    /// for (label, confidence) in pixels {
    ///     assert!(if *label == UNLABELLED_8 { *confidence <= 128 } else { *confidence >= 127 });
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn threshold(self, threshold: Threshold) -> Self {
        Wanted { outputs: self.outputs.above(threshold), ..self }
    }

    /// [`Output::Embedding`] too, in this form.
    ///
    /// ```
    /// use lseg_fast::image::npy::Dtype;
    /// use lseg_fast::{EmbeddingForm, Engine, Image, Layout, MapSize, Options, Output, Wanted};
    ///
    /// # fn main() -> lseg_fast::Result<()> {
    /// let mut engine = Engine::load_demo(&Options::default())?;
    /// engine.set_size("64x64".parse()?);
    /// let rgb = vec![90; 50 * 30 * 3];
    /// let form = EmbeddingForm { at: MapSize::Photo, dtype: Dtype::F16, layout: Layout::Chw, normalise: true };
    /// let results = engine.run(&[Image::rgb8(50, 30, &rgb)], Wanted::default().embedding(form))?;
    /// let [channels, height, width] = results.shape(Output::Embedding).unwrap();
    /// assert_eq!((height, width), (30, 50));
    /// assert_eq!(results.halves(Output::Embedding, 0).unwrap().len(), channels * height * width);
    /// # Ok(())
    /// # }
    /// ```
    pub fn embedding(self, form: EmbeddingForm) -> Self {
        Wanted { outputs: self.outputs.embedding(form), ..self }
    }

    /// The labels' colours with their weight, as plans have them.
    pub(super) fn palette(&self) -> impl Iterator<Item = [u8; 4]> {
        let weight = self.alpha.0;
        self.colours.iter().map(move |[r, g, b]| [*r, *g, *b, weight])
    }

    /// Whether it is among them.
    pub fn has(&self, output: Output) -> bool {
        self.outputs.has(output)
    }

    /// Whether they can be had of so many labels and a frame of this (height, width).
    ///
    /// # Errors
    /// [`Error::Labels`] for more or fewer colours than labels and for more labels than a mask of this kind can tell apart;
    /// [`Error::Points`] for no points and for one outside the frame.
    pub(super) fn check(&self, labels: usize, (height, width): (usize, usize)) -> Result<()> {
        let colours = self.colours.len();
        if self.has(Output::Overlay) && colours != labels {
            return Err(Error::Labels(format!("{colours} colours for {labels} labels: give one a label")));
        }
        let unlabelled = self.outputs.threshold.is_some();
        let values = if self.has(Output::Mask8) { MOST_LABELS_8 } else { MOST_LABELS };
        let most = values - usize::from(unlabelled);
        if self.outputs.need_mask() && labels > most {
            let bytes = if self.has(Output::Mask8) { " of bytes" } else { "" };
            let with = if unlabelled { " with a threshold" } else { "" };
            let ask = if self.has(Output::Mask8) { ", or ask for Output::Mask" } else { "" };
            let what = format!("{labels} labels for a mask{bytes}{with}: give {most} at most{ask}");
            return Err(Error::Labels(what));
        }
        if self.has(Output::Points) && self.points.is_empty() {
            return Err(Error::Points("no points: name them with Wanted::at_points".to_owned()));
        }
        match self.points.iter().position(|point| !points::inside(*point, height, width)) {
            Some(at) => Err(points::outside(&format!("point {at} of the list"), self.points[at], height, width)),
            None => Ok(()),
        }
    }
}

/// What some frames yielded: an array for each output that was wanted. Given to the next frames it is filled anew, its memory
/// serves again, and nothing is given back in a frame ([`Lane::run_into`](super::Lane::run_into)).
///
/// ```
/// use lseg_fast::{Engine, Image, Options, Output, Results, Wanted};
///
/// # fn main() -> lseg_fast::Result<()> {
/// let mut engine = Engine::load_demo(&Options::default())?;
/// engine.set_size("64x64".parse()?);
/// engine.set_labels(&["snow", "night sky", "other"])?;
/// let (white, black) = (vec![250; 64 * 64 * 3], vec![10; 64 * 64 * 3]);
/// let frames = [&white, &black].map(|rgb| Image::rgb8(64, 64, rgb));
///
/// let mut results = Results::default();
/// engine.run_into(&frames, Wanted::MASK.and(Output::Scores), &mut results)?;
/// assert_eq!(results.mask(1).unwrap().len(), 64 * 64);
/// assert_eq!(results.shape(Output::Scores), Some([3, 64, 64]));
/// assert_eq!(results.values(Output::Scores, 1).unwrap().len(), 3 * 64 * 64);
/// assert_eq!(results.labels().unwrap().names(), engine.labels());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Results {
    pub(super) frames: usize,
    pub(super) labels: Option<Labels>,
    pub(super) arrays: [Array; Output::ALL.len()],
}

/// All frames' values of one output, one frame after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Array {
    /// What its values are, where there are any.
    pub element: Option<Element>,
    /// Of one frame.
    pub shape: [usize; 3],
    pub data: Data,
}

/// Values of the kind that an output has.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub f32: Vec<f32>,
    pub f16: Vec<f16>,
    pub u16: Vec<u16>,
    pub u8: Vec<u8>,
}

impl Results {
    /// How many frames.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The labels that the frames were asked about, where an output is about labels. Their epoch tells them from those before and
    /// after.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref().filter(|_| self.frames > 0)
    }

    /// Of one frame's array of this output, as [`Output`] tells: a mask has `[height, width, 1]`, points have `[1, points,
    /// embed_dim]`, an overlay `[height, width, channels]`, an embedding what its layout says. `None` where it was not wanted.
    pub fn shape(&self, output: Output) -> Option<[usize; 3]> {
        self.array(output).map(|array| array.shape)
    }

    /// A frame's mask, `height · width` indices into the labels.
    pub fn mask(&self, frame: usize) -> Option<&[u16]> {
        self.of_frame(Output::Mask, Element::U16, frame, |data| &data.u16)
    }

    /// A frame's mask in bytes, `height · width` indices into the labels.
    pub fn mask8(&self, frame: usize) -> Option<&[u8]> {
        self.of_frame(Output::Mask8, Element::U8, frame, |data| &data.u8)
    }

    /// A frame's confidences, `height · width` bytes.
    pub fn confidence(&self, frame: usize) -> Option<&[u8]> {
        self.of_frame(Output::Confidence, Element::U8, frame, |data| &data.u8)
    }

    /// A frame's overlay, `height · width · 3` bytes of RGB.
    pub fn overlay(&self, frame: usize) -> Option<&[u8]> {
        self.of_frame(Output::Overlay, Element::U8, frame, |data| &data.u8)
    }

    /// A frame's values of any other output, where they are float32.
    pub fn values(&self, output: Output, frame: usize) -> Option<&[f32]> {
        self.of_frame(output, Element::F32, frame, |data| &data.f32)
    }

    /// A frame's values of an output that was asked for in float16 ([`Wanted::embedding`]).
    pub fn halves(&self, output: Output, frame: usize) -> Option<&[f16]> {
        self.of_frame(output, Element::F16, frame, |data| &data.f16)
    }

    /// All frames' masks, given away.
    pub fn take_masks(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.take(Output::Mask).u16)
    }

    /// All frames' masks in bytes, given away.
    pub fn take_masks8(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.take(Output::Mask8).u8)
    }

    /// All frames' confidences, given away.
    pub fn take_confidences(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.take(Output::Confidence).u8)
    }

    /// All frames' overlays, given away.
    pub fn take_overlays(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.take(Output::Overlay).u8)
    }

    /// All frames' values of any other output, given away.
    pub fn take_values(&mut self, output: Output) -> Vec<f32> {
        std::mem::take(&mut self.take(output).f32)
    }

    /// All frames' values of an output in float16, given away.
    pub fn take_halves(&mut self, output: Output) -> Vec<f16> {
        std::mem::take(&mut self.take(output).f16)
    }

    /// Nothing is there from here on; the memory stays.
    pub(super) fn clear(&mut self) {
        self.frames = 0;
        self.arrays.iter_mut().for_each(|array| array.element = None);
    }

    /// A frame's mask by `run`, into the caller's memory. Where it fails the caller's mask is as it was, or of no size.
    pub(super) fn mask_into(
        &mut self,
        segmentation: &mut Segmentation,
        run: impl FnOnce(&mut Results) -> Result<()>,
    ) -> Result<()> {
        let swap = |results: &mut Results, mask: &mut Vec<u16>| {
            std::mem::swap(&mut results.arrays[Output::Mask as usize].data.u16, mask);
        };
        let size = segmentation.mask.len();
        swap(self, &mut segmentation.mask);
        let done = run(self);
        swap(self, &mut segmentation.mask);
        match (&done, self.shape(Output::Mask)) {
            (Ok(()), Some([height, width, _])) => (segmentation.height, segmentation.width) = (height, width),
            _ if segmentation.mask.len() != size => *segmentation = Segmentation::default(),
            _ => {}
        }
        done
    }

    /// One frame's array of an output, whose values `fill` brings; of the element that the host has it in.
    pub(super) fn put(&mut self, output: Output, shape: [usize; 3], fill: impl FnOnce(&mut Data)) {
        let array = &mut self.arrays[output as usize];
        fill(&mut array.data);
        (array.shape, self.frames) = (shape, 1);
        array.element = Some(match output {
            Output::Mask => Element::U16,
            Output::Overlay | Output::Confidence | Output::Mask8 => Element::U8,
            _ => Element::F32,
        });
    }

    fn take(&mut self, output: Output) -> &mut Data {
        let array = &mut self.arrays[output as usize];
        array.element = None;
        &mut array.data
    }

    fn array(&self, output: Output) -> Option<&Array> {
        Some(&self.arrays[output as usize]).filter(|array| array.element.is_some())
    }

    fn of_frame<T>(
        &self,
        output: Output,
        element: Element,
        frame: usize,
        values: impl Fn(&Data) -> &Vec<T>,
    ) -> Option<&[T]> {
        let array = self.array(output).filter(|array| array.element == Some(element) && frame < self.frames)?;
        let size = array.shape.iter().product::<usize>();
        values(&array.data).get(frame * size..(frame + 1) * size)
    }
}
