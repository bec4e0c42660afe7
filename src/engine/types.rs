//! What goes into an [`Engine`](super::Engine) and what comes out.

use std::time::Duration;

use crate::device::DeviceChoice;
use crate::device::cuda::ContextKind;
use crate::model::UNLABELLED;

/// What becomes of labels that have more tokens than the text tower reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongLabels {
    /// An error.
    #[default]
    Refuse,
    /// Only their beginning is read, as with CLIP's `tokenize(text, truncate=True)`; [`Labels::notes`](super::Labels::notes) say so.
    Cut,
}

/// How a list of words becomes labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelOptions {
    /// Texts around the labels, such as "a photo of a {}": each filled-in text is encoded and normalised, and the mean of a label's
    /// texts stands for it. Without templates a label stands for itself.
    pub templates: Vec<String>,
    /// As of [`TemplateList`](super::TemplateList).
    pub keeps_length: bool,
    /// As of [`TemplateList`](super::TemplateList).
    pub spares_last: bool,
    /// What to do with labels that are too long for the text tower.
    pub long_labels: LongLabels,
}

/// How to load a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Where to compute.
    pub device: DeviceChoice,
    /// CPU threads, at most four for each core; all that the machine offers if none.
    pub threads: Option<usize>,
    /// The most bytes that the network may take with all its lanes, photos and results, of the host's memory and again of a GPU's;
    /// three quarters of what is free when it is loaded if none.
    pub memory: Option<u64>,
    /// How long a GPU may take for one pass: a frame, or a batch of texts. After it the engine, and every lane, is lost ([`Error::Lost`](crate::Error::Lost)). As
    /// long as it likes if none. Where several passes are in flight in a
    /// context, a wait lasts at most as many times as long. Waiting with a limit asks the driver again and again.
    pub timeout: Option<Duration>,
    /// How the host waits for a GPU.
    pub wait: Wait,
    /// The CUDA context that memory and streams are in.
    pub context: ContextKind,
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

/// Each pixel's label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segmentation {
    /// Pixels of a row, as the frame has.
    pub width: usize,
    /// Rows, as the frame has.
    pub height: usize,
    /// `height · width` indices into the labels, and [`UNLABELLED`](crate::UNLABELLED) where a threshold left a pixel none
    pub mask: Vec<u16>,
}

impl Segmentation {
    /// Each label's share of the pixels, for `labels` labels; the sum is 1, but for the pixels without one.
    pub fn shares(&self, labels: usize) -> Vec<f64> {
        shares(&self.mask, labels)
    }

    /// The share of the pixels that a threshold left without a label.
    pub fn unlabelled(&self) -> f64 {
        unlabelled(&self.mask)
    }
}

/// As [`Segmentation::shares`], of a mask alone.
pub(crate) fn shares(mask: &[u16], labels: usize) -> Vec<f64> {
    let mut counts = vec![0u64; labels];
    for index in mask {
        if let Some(count) = counts.get_mut(usize::from(*index)) {
            *count += 1;
        }
    }
    counts.into_iter().map(|count| count as f64 / mask.len().max(1) as f64).collect()
}

/// As [`Segmentation::unlabelled`], of a mask alone.
pub(crate) fn unlabelled(mask: &[u16]) -> f64 {
    let count = mask.iter().filter(|label| **label == UNLABELLED).count();
    count as f64 / mask.len().max(1) as f64
}

/// Logits of every label at every pixel of the network's input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// How many labels.
    pub labels: usize,
    /// Of the network's input.
    pub height: usize,
    /// Of the network's input.
    pub width: usize,
    /// `[labels, height, width]`
    pub data: Vec<f32>,
}

/// A buffer of the forward pass, read out by [`Lane::inspect`](super::Lane::inspect).
#[derive(Clone, Debug, PartialEq)]
pub struct Tap {
    /// The buffer's name in the forward pass.
    pub name: String,
    /// `[batch, height, width, channels]`; tokens have height 1
    pub shape: [usize; 4],
    /// In the order of `shape`, as float32 whatever the device keeps.
    pub data: Vec<f32>,
}
