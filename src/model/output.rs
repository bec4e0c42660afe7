//! What a frame may yield, as one list and one table of buffers.
//!
//! An output is four files: its row here, where [`Model::forward`](super::Model::forward) computes it, how its values are checked
//! (`engine/collect.rs`) and the `--save` that writes it.

use crate::ops::{Buf, Element, PlanBuilder};

/// What a frame may yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Each pixel's label: `[height, width]` of the frame, u16.
    Mask,
    /// The winning label's logit at each pixel of the mask: `[height, width]` of the frame, float32.
    Best,
    /// The frame tinted with its labels' colours: `[height, width, 3]` of the frame, u8, each channel rounded down.
    Overlay,
    /// Every label's logit (a cosine times 1/0.07, after the head block): `[labels, height, width]` of the network's input,
    /// float32.
    Scores,
    /// Softmax of the scores over the labels, of their shape.
    Probabilities,
    /// The pixels' embeddings, of any length: `[height, width, embed_dim]` at half the network's size, float32.
    Embedding,
    /// Embeddings at points of the frame: `[points, embed_dim]`, float32.
    Points,
}

impl Output {
    /// All of them, in the order of the pass.
    pub const ALL: [Output; 7] = [
        Output::Embedding,
        Output::Points,
        Output::Scores,
        Output::Probabilities,
        Output::Mask,
        Output::Best,
        Output::Overlay,
    ];

    /// Whether it is about labels.
    pub fn needs_labels(self) -> bool {
        !matches!(self, Output::Embedding | Output::Points)
    }

    /// Whether it is made of the mask, or beside it.
    fn needs_mask(self) -> bool {
        matches!(self, Output::Mask | Output::Best | Output::Overlay | Output::Probabilities)
    }
}

/// What a frame must yield, as far as its plan depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    set: u8,
    /// So many in each frame, for [`Output::Points`].
    pub points: usize,
}

impl Outputs {
    /// [`Output::Mask`] alone.
    pub const MASK: Outputs = Outputs { set: bit(Output::Mask), points: 0 };

    /// These, and what they are made of.
    pub fn of(outputs: &[Output]) -> Outputs {
        outputs.iter().fold(Outputs::default(), |all, output| all.and(*output))
    }

    /// This one too, and what it is made of.
    pub fn and(self, output: Output) -> Outputs {
        let mask = if output.needs_mask() { bit(Output::Mask) } else { 0 };
        Outputs { set: self.set | bit(output) | mask, ..self }
    }

    /// So many points too.
    pub fn at_points(self, points: usize) -> Outputs {
        Outputs { points, ..self.and(Output::Points) }
    }

    /// Whether it is among them.
    pub fn has(self, output: Output) -> bool {
        self.set & bit(output) != 0
    }

    /// Whether one of them is about labels.
    pub fn need_labels(self) -> bool {
        Output::ALL.into_iter().any(|output| self.has(output) && output.needs_labels())
    }
}

const fn bit(output: Output) -> u8 {
    1 << output as u8
}

/// The buffers that the host fills and reads.
#[derive(Clone, Copy, Debug)]
pub struct FrameIo {
    /// `[b, h0, w0, 3]`, u8
    pub photo: Buf,
    /// `[1, 1, labels, 4]`, u8; filled by the host
    pub palette: Option<Buf>,
    /// `[b, 1, points, 2]`: (x, y) in photo pixels; filled by the host
    pub points: Option<Buf>,
    /// `[1, 1, 1, 1]`, u32, beside a mask: pixels whose winning score is no finite number
    pub not_finite: Option<Buf>,
    outputs: [Option<Buf>; Output::ALL.len()],
}

impl FrameIo {
    /// A photo, and what else the host fills for these outputs.
    pub(super) fn declare(d: &mut PlanBuilder, photo: [usize; 4], labels: usize, wanted: Outputs) -> FrameIo {
        let mut input = |name, shape, element| {
            let buf = d.buffer(name, shape, element);
            d.input(buf);
            buf
        };
        let [batch, ..] = photo;
        FrameIo {
            photo: input("photo", photo, Element::U8),
            points: wanted.has(Output::Points).then(|| input("points", [batch, 1, wanted.points, 2], Element::F32)),
            palette: wanted.has(Output::Overlay).then(|| input("palette", [1, 1, labels, 4], Element::U8)),
            not_finite: None,
            outputs: [None; Output::ALL.len()],
        }
    }

    /// The buffer of an output, where the pass has it.
    pub fn output(&self, output: Output) -> Option<Buf> {
        self.outputs[output as usize]
    }

    /// The host reads it from here.
    pub(super) fn give(&mut self, d: &mut PlanBuilder, output: Output, buf: Buf) {
        d.output(buf);
        self.outputs[output as usize] = Some(buf);
    }
}
