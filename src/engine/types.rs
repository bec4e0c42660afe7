//! What goes into an [`Engine`](super::Engine) and what comes out.

use std::time::Duration;

use crate::device::DeviceChoice;

/// What becomes of labels that have more tokens than the text tower reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongLabels {
    /// [`Engine::set_labels`](super::Engine::set_labels) fails.
    #[default]
    Refuse,
    /// Only their beginning is read, as with CLIP's `tokenize(text, truncate=True)`; [`Engine::label_notes`](super::Engine::label_notes) says so.
    Cut,
}

/// How to load a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Where to compute.
    pub device: DeviceChoice,
    /// CPU threads, at most four for each core; all that the machine offers if none.
    pub threads: Option<usize>,
    /// The most bytes that the engine may take with all its photos and results, of the host's memory and again of a GPU's;
    /// three quarters of what is free when the engine is made if none.
    pub memory: Option<u64>,
    /// How long a GPU may take for one pass: a frame, or a batch of texts. After it the engine is lost ([`Error::Lost`](crate::Error::Lost)). As
    /// long as it likes if none. Waiting with a limit asks the driver again and again.
    pub timeout: Option<Duration>,
    /// How the host waits for a GPU.
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
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height · width · 3` bytes
    pub rgb: &'a [u8],
}

/// Each pixel's label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segmentation {
    /// Pixels of a row, as the frame has.
    pub width: usize,
    /// Rows, as the frame has.
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
    /// How many labels.
    pub labels: usize,
    /// Of the network's input.
    pub height: usize,
    /// Of the network's input.
    pub width: usize,
    /// `[labels, height, width]`
    pub data: Vec<f32>,
}

/// What [`Engine::segment_with`](super::Engine::segment_with) yields beside the mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras<'a> {
    /// The logits: cosines times 1/0.07, after the head block.
    pub scores: bool,
    /// Their softmax over the labels.
    pub probabilities: bool,
    /// The winning logit at each of the frame's pixels.
    pub best: bool,
    /// For an overlay: one RGB colour a label, such as [`palette`](crate::image::palette::palette) has.
    pub colours: Option<&'a [[u8; 3]]>,
    /// The colours' weight in the overlay.
    pub alpha: Alpha,
}

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

/// A frame's mask and what was asked for beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segmented {
    /// The mask.
    pub segmentation: Segmentation,
    /// The logits at the network's size.
    pub scores: Option<Scores>,
    /// Each label's probability at each pixel of the network's input: softmax of the logits over the labels.
    pub probabilities: Option<Scores>,
    /// `[height, width]` of the frame: the logit of each pixel's label, brought to the frame's size as the mask is.
    pub best: Option<Vec<f32>>,
    /// `[height, width, 3]`: the frame tinted with its labels' colours, each channel rounded down.
    pub overlay: Option<Vec<u8>>,
}

/// A buffer of the forward pass, read out by [`Engine::inspect`](super::Engine::inspect).
#[derive(Clone, Debug, PartialEq)]
pub struct Tap {
    /// The buffer's name in the forward pass.
    pub name: String,
    /// `[batch, height, width, channels]`; tokens have height 1
    pub shape: [usize; 4],
    /// In the order of `shape`, as float32 whatever the device keeps.
    pub data: Vec<f32>,
}
