//! What a frame may yield, as one list and one table of buffers.
//!
//! An output is four files: its row here, where [`Model::forward`](super::Model::forward) computes it, how its values are checked
//! (`engine/collect.rs`) and the `--save` that writes it.

use super::FrameShape;
pub use crate::image::mask::{UNLABELLED, UNLABELLED_8};
use crate::image::npy::Dtype;
pub use crate::ops::Layout;
use crate::ops::{Buf, Element, Picture, PlanBuilder};

/// What a frame may yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Each pixel's label: `[height, width]` of the frame, u16.
    Mask,
    /// The same in bytes, of at most 256 labels, or 255 with a [`Threshold`]: `[height, width]` of the frame, u8.
    Mask8,
    /// How sure each pixel's label is: the softmax of its logit among all labels' logits at that pixel of the frame, times 255,
    /// rounded to the nearest: `[height, width]` of the frame, u8.
    Confidence,
    /// The winning label's logit at each pixel of the mask: `[height, width]` of the frame, float32.
    Best,
    /// The frame tinted with its labels' colours: `[height, width, 3]` of the frame, u8, each channel rounded down.
    Overlay,
    /// Every label's logit (a cosine times 1/0.07, after the head block): `[labels, height, width]` of the network's input,
    /// float32.
    Scores,
    /// Softmax of the scores over the labels, of their shape.
    Probabilities,
    /// The pixels' embeddings, in the [`EmbeddingForm`] that was asked for; else of any length, `[height, width, embed_dim]` at half
    /// the network's size, float32.
    Embedding,
    /// Embeddings at points of the frame: `[points, embed_dim]`, float32.
    Points,
}

impl Output {
    /// All of them, in the order of the pass.
    pub const ALL: [Output; 9] = [
        Output::Embedding,
        Output::Points,
        Output::Scores,
        Output::Probabilities,
        Output::Mask,
        Output::Mask8,
        Output::Confidence,
        Output::Best,
        Output::Overlay,
    ];

    /// Whether it is about labels.
    pub fn needs_labels(self) -> bool {
        !matches!(self, Output::Embedding | Output::Points)
    }

    /// Whether the mask comes with it.
    fn brings_mask(self) -> bool {
        matches!(self, Output::Mask | Output::Best | Output::Overlay | Output::Probabilities)
    }
}

/// Embeddings beyond this are no use: the squares of a vector of 65,536 such values just have a sum in float32.
pub(crate) const LARGEST_EMBEDDING: f32 = 1e16;

/// The confidence below which a pixel has no label: see [`UNLABELLED`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold(f32);

// It is a number.
impl Eq for Threshold {}

impl Threshold {
    /// `None` for what is not within 0 (every pixel keeps its label) and 1.
    pub fn new(confidence: f64) -> Option<Threshold> {
        (0.0..=1.0).contains(&confidence).then_some(Threshold(confidence as f32))
    }

    /// As a device compares it.
    pub(crate) fn value(self) -> f32 {
        self.0
    }
}

/// The form of [`Output::Embedding`], made by the device. By default float32 vectors of any length, one behind the other, at half the
/// network's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingForm {
    /// Of the map.
    pub at: MapSize,
    /// Of its values. float16 holds up to 65,504; what is beyond is an error.
    pub dtype: Dtype,
    /// The order of its dimensions.
    pub layout: Layout,
    /// Whether each vector is brought to length 1 last of all (a zero vector stays zero).
    pub normalise: bool,
}

impl Default for EmbeddingForm {
    fn default() -> EmbeddingForm {
        EmbeddingForm { at: MapSize::Half, dtype: Dtype::F32, layout: Layout::Hwc, normalise: false }
    }
}

/// The size of a map of embeddings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapSize {
    /// Half the network's, at which they are computed.
    #[default]
    Half,
    /// The network's: ×2 bilinear, align_corners=True.
    Full,
    /// The photo's: as [`MapSize::Full`], then bilinear with align_corners=False.
    Photo,
}

impl MapSize {
    /// (height, width) where it is not as computed.
    pub(crate) fn resized(self, shape: &FrameShape) -> Option<(usize, usize)> {
        match self {
            MapSize::Half => None,
            MapSize::Full => Some(shape.network),
            MapSize::Photo => Some(shape.photo),
        }
    }
}

/// What a frame must yield, as far as its plan depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    set: u16,
    /// So many in each frame, for [`Output::Points`].
    pub points: usize,
    /// Of masks, and the overlay.
    pub threshold: Option<Threshold>,
    /// Of [`Output::Embedding`].
    pub embedding: EmbeddingForm,
    /// Whether outputs are as the network defines them, and counted where they are no numbers, before the host sees them.
    pub on_device: bool,
}

impl Outputs {
    /// [`Output::Mask`] alone.
    pub const MASK: Outputs = Outputs {
        set: bit(Output::Mask),
        points: 0,
        threshold: None,
        embedding: EmbeddingForm { at: MapSize::Half, dtype: Dtype::F32, layout: Layout::Hwc, normalise: false },
        on_device: false,
    };

    /// These, and what they are made of.
    pub fn of(outputs: &[Output]) -> Outputs {
        outputs.iter().fold(Outputs::default(), |all, output| all.and(*output))
    }

    /// This one too, and what it is made of.
    pub fn and(self, output: Output) -> Outputs {
        let mask = if output.brings_mask() { bit(Output::Mask) } else { 0 };
        Outputs { set: self.set | bit(output) | mask, ..self }
    }

    /// So many points too.
    pub fn at_points(self, points: usize) -> Outputs {
        Outputs { points, ..self.and(Output::Points) }
    }

    /// Masks and the overlay with what is below a threshold left out.
    pub fn above(self, threshold: Threshold) -> Outputs {
        Outputs { threshold: Some(threshold), ..self }
    }

    /// [`Output::Embedding`] too, in this form.
    pub fn embedding(self, form: EmbeddingForm) -> Outputs {
        Outputs { embedding: form, ..self.and(Output::Embedding) }
    }

    /// These, to be used where the device has them.
    pub fn on_device(self) -> Outputs {
        Outputs { on_device: true, ..self }
    }

    /// Whether it is among them.
    pub fn has(self, output: Output) -> bool {
        self.set & bit(output) != 0
    }

    /// Whether a mask is made, whatever becomes of it.
    pub fn need_mask(self) -> bool {
        [Output::Mask, Output::Mask8, Output::Confidence].into_iter().any(|output| self.has(output))
    }

    /// Whether one of them is about labels.
    pub fn need_labels(self) -> bool {
        Output::ALL.into_iter().any(|output| self.has(output) && output.needs_labels())
    }
}

const fn bit(output: Output) -> u16 {
    1 << output as u8
}

/// The buffers that the host fills and reads.
#[derive(Clone, Copy, Debug)]
pub struct FrameIo {
    /// The frames; filled by the host
    pub photo: Picture,
    /// `[1, 1, labels, 4]`, u8; filled by the host
    pub palette: Option<Buf>,
    /// `[b, 1, points, 2]`: (x, y) in photo pixels; filled by the host
    pub points: Option<Buf>,
    /// Whether pixels of masks may be unlabelled
    pub unlabelled: bool,
    outputs: [Option<Buf>; Output::ALL.len()],
    counts: [Option<Count>; Output::ALL.len()],
}

/// Where a pass counts what is no number.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// Whose values.
    pub output: Output,
    /// How many values the output has, of all frames.
    pub values: usize,
    /// What they are.
    pub element: Element,
    /// `[1, 1, 1, 1]`, u32
    pub place: Buf,
}

impl FrameIo {
    /// A photo, and what else the host fills for these outputs.
    pub(super) fn declare(d: &mut PlanBuilder, shape: &FrameShape, labels: usize, wanted: Outputs) -> FrameIo {
        let FrameShape { batch, photo: size, format, .. } = *shape;
        let photo = d.picture("photo", format, batch, size);
        d.input(photo.buf);
        let mut input = |name, shape, element| {
            let buf = d.buffer(name, shape, element);
            d.input(buf);
            buf
        };
        FrameIo {
            photo,
            points: wanted.has(Output::Points).then(|| input("points", [batch, 1, wanted.points, 2], Element::F32)),
            palette: wanted.has(Output::Overlay).then(|| input("palette", [1, 1, labels, 4], Element::U8)),
            unlabelled: wanted.threshold.is_some(),
            outputs: [None; Output::ALL.len()],
            counts: [None; Output::ALL.len()],
        }
    }

    /// The buffer of an output, where the pass has it.
    pub fn output(&self, output: Output) -> Option<Buf> {
        self.outputs[output as usize]
    }

    /// What the pass counts: of [`Output::Mask`], whatever was asked of the mask, the pixels whose winning score is no finite number;
    /// of embeddings the values that are none.
    pub fn counts(&self) -> impl Iterator<Item = Count> {
        self.counts.into_iter().flatten()
    }

    /// Whether the pass counts what is no number of an output.
    pub fn counts_of(&self, output: Output) -> bool {
        self.counts[output as usize].is_some()
    }

    /// The host reads from `place` how many of an output's values, which lie in `of`, are no numbers.
    pub(super) fn count(&mut self, d: &mut PlanBuilder, output: Output, of: Buf, place: Buf) {
        d.output(place);
        self.counts[output as usize] = Some(Count { output, values: of.len(), element: of.element, place });
    }

    /// The host reads it from here.
    pub(super) fn give(&mut self, d: &mut PlanBuilder, output: Output, buf: Buf) {
        d.output(buf);
        self.outputs[output as usize] = Some(buf);
    }
}
