//! What a frame is asked for, and what it yields.

use super::label_set::Labels;
use super::types::Segmentation;
use crate::error::{Error, Result};
use crate::model::{Output, Outputs};
use crate::points;

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

    /// Whether it is among them.
    pub fn has(&self, output: Output) -> bool {
        self.outputs.has(output)
    }

    /// Whether they can be had of so many labels and a frame of this (height, width).
    ///
    /// # Errors
    /// [`Error::Labels`] for more or fewer colours than labels, [`Error::Points`] for no points and for one outside the frame.
    pub(super) fn check(&self, labels: usize, (height, width): (usize, usize)) -> Result<()> {
        let colours = self.colours.len();
        if self.has(Output::Overlay) && colours != labels {
            return Err(Error::Labels(format!("{colours} colours for {labels} labels: give one a label")));
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
/// use lseg_fast::{Engine, Frame, Options, Output, Results, Wanted};
///
/// # fn main() -> lseg_fast::Result<()> {
/// let mut engine = Engine::load_demo(&Options::default())?;
/// engine.set_size("64x64".parse()?);
/// engine.set_labels(&["snow", "night sky", "other"])?;
/// let (white, black) = (vec![250; 64 * 64 * 3], vec![10; 64 * 64 * 3]);
/// let frames = [&white, &black].map(|rgb| Frame { width: 64, height: 64, rgb });
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
    pub is_wanted: bool,
    /// Of one frame.
    pub shape: [usize; 3],
    pub data: Data,
}

/// Values of the kind that an output has.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub f32: Vec<f32>,
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
    /// embed_dim]`, an overlay and an embedding `[height, width, channels]`. `None` where it was not wanted.
    pub fn shape(&self, output: Output) -> Option<[usize; 3]> {
        self.array(output).map(|array| array.shape)
    }

    /// A frame's mask, `height · width` indices into the labels.
    pub fn mask(&self, frame: usize) -> Option<&[u16]> {
        self.of_frame(Output::Mask, frame, |data| &data.u16)
    }

    /// A frame's overlay, `height · width · 3` bytes of RGB.
    pub fn overlay(&self, frame: usize) -> Option<&[u8]> {
        self.of_frame(Output::Overlay, frame, |data| &data.u8)
    }

    /// A frame's values of any other output.
    pub fn values(&self, output: Output, frame: usize) -> Option<&[f32]> {
        self.of_frame(output, frame, |data| &data.f32).filter(|_| !matches!(output, Output::Mask | Output::Overlay))
    }

    /// All frames' masks, given away.
    pub fn take_masks(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.take(Output::Mask).u16)
    }

    /// All frames' overlays, given away.
    pub fn take_overlays(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.take(Output::Overlay).u8)
    }

    /// All frames' values of any other output, given away.
    pub fn take_values(&mut self, output: Output) -> Vec<f32> {
        std::mem::take(&mut self.take(output).f32)
    }

    /// Nothing is there from here on; the memory stays.
    pub(super) fn clear(&mut self) {
        self.frames = 0;
        self.arrays.iter_mut().for_each(|array| array.is_wanted = false);
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

    fn take(&mut self, output: Output) -> &mut Data {
        let array = &mut self.arrays[output as usize];
        array.is_wanted = false;
        &mut array.data
    }

    fn array(&self, output: Output) -> Option<&Array> {
        Some(&self.arrays[output as usize]).filter(|array| array.is_wanted)
    }

    fn of_frame<T>(&self, output: Output, frame: usize, values: impl Fn(&Data) -> &Vec<T>) -> Option<&[T]> {
        let array = self.array(output)?;
        let size = array.shape.iter().product::<usize>();
        values(&array.data).get(frame * size..(frame + 1) * size).filter(|_| frame < self.frames)
    }
}
