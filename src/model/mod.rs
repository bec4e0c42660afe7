//! The network, written once over any `Device`: image encoder, decoder, head; text tower.

pub mod config;
pub mod detect;
mod output;

// The rest is for the engine, the tests and the benches; nothing of it promises to stay as it is.
#[doc(hidden)]
pub mod dpt;
#[doc(hidden)]
pub mod head;
#[doc(hidden)]
pub mod resized;
#[doc(hidden)]
pub mod resnet;
#[doc(hidden)]
pub mod scale;
#[doc(hidden)]
pub mod text;
#[doc(hidden)]
pub mod transformer;
#[doc(hidden)]
pub mod vit;
#[doc(hidden)]
pub mod weights;

use self::config::{Config, ImageEncoder};
pub use self::output::{FrameIo, Output, Outputs};
use self::weights::{Loader, TensorSpec};
use crate::error::Result;
use crate::ops::patchify::Normalise;
use crate::ops::{Buf, Element, PlanBuilder, Stage, similarity};

/// One LSeg: handles of its weights on a device, and how they are used.
pub struct Model {
    /// What it is made of.
    pub config: Config,
    /// Of the image's activations: see [`scale`].
    pub scale: f32,
    encoder: Encoder,
    decoder: dpt::Dpt,
    /// Embeddings to scores.
    pub head: head::Head,
    /// Token ids to embeddings.
    pub text: text::Text,
}

enum Encoder {
    Vit(vit::Vit),
    Resnet(resnet::Resnet),
}

/// The sizes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameShape {
    /// Frames at once.
    pub batch: usize,
    /// (height, width) of the photo
    pub photo: (usize, usize),
    /// (height, width) of the network's input, multiples of 32
    pub network: (usize, usize),
}

/// The tensors that a model of this checked configuration needs, by the published checkpoint's names, in the order of the
/// computation: what [`Model::load`] names. `convert` writes exactly these.
pub fn required(config: &Config) -> Vec<TensorSpec> {
    let mut list = Loader::list();
    Model::load(config, &mut list).expect("a list reads no file");
    list.into_tensors()
}

impl Model {
    /// Takes every weight that the configuration needs.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape or type, or with values of which no numbers can come; whatever the device answers.
    pub fn load(config: &Config, from: &mut Loader<'_>) -> Result<Model> {
        let scale = scale::of(config, from.is_half());
        from.set_scale(scale);
        Ok(Model {
            config: config.clone(),
            scale,
            encoder: match &config.image {
                image @ ImageEncoder::Vit { .. } => Encoder::Vit(vit::Vit::load(image, from)?),
                image @ ImageEncoder::Resnet { .. } => Encoder::Resnet(resnet::Resnet::load(image, from)?),
            },
            decoder: dpt::Dpt::load(config, from)?,
            head: head::Head::load(config, from)?,
            text: text::Text::load(config, from)?,
        })
    }

    /// A frame, from photo to what is wanted of it. Scores and masks need a bank.
    pub fn forward(
        &self,
        d: &mut PlanBuilder,
        shape: FrameShape,
        bank: Option<&similarity::Weights>,
        wanted: Outputs,
    ) -> FrameIo {
        let FrameShape { batch, photo: (h0, w0), network } = shape;
        d.stage(Stage::Encoder);
        let labels = bank.map_or(0, |bank| bank.labels.weight.n);
        let mut io = FrameIo::declare(d, [batch, h0, w0, 3], labels, wanted);
        let path = self.features(d, io.photo, network);
        if wanted.has(Output::Embedding) {
            let embedding = self.head.embedding(d, path);
            io.give(d, Output::Embedding, embedding);
        }
        if let Some(points) = io.points {
            let sampled = self.head.embedding_at(d, path, points, shape.photo);
            io.give(d, Output::Points, sampled);
        }
        let Some(bank) = bank.filter(|_| wanted.need_labels()) else { return io };
        let logits = self.head.scores(d, path, bank);

        d.stage(Stage::Mask);
        d.scope("output", 0);
        let [b, h, w, n] = logits.shape;
        if wanted.has(Output::Scores) {
            let scores = d.buffer("scores", [b, n, 2 * h, 2 * w], Element::F32);
            d.upsample_scores(logits, scores);
            io.give(d, Output::Scores, scores);
        }
        if wanted.has(Output::Probabilities) {
            let probabilities = d.buffer("probabilities", [b, n, 2 * h, 2 * w], Element::F32);
            d.upsample_scores(logits, probabilities);
            let lse = d.buffer("lse", [b, 1, 2 * h, 2 * w], Element::F32);
            d.softmax_scores(lse, probabilities);
            io.give(d, Output::Probabilities, probabilities);
        }
        if !wanted.has(Output::Mask) {
            return io;
        }
        let mask = d.buffer("mask", [batch, h0, w0, 1], Element::of_labels(n));
        let best = wanted.has(Output::Best).then(|| d.buffer("best", mask.shape, Element::F32));
        let not_finite = d.buffer("not_finite", [1; 4], Element::U32);
        d.argmax(logits, mask, best, not_finite);
        io.give(d, Output::Mask, mask);
        if let Some(best) = best {
            io.give(d, Output::Best, best);
        }
        d.output(not_finite);
        io.not_finite = Some(not_finite);
        if let Some(palette) = io.palette {
            d.overlay(mask, palette, io.photo);
            io.give(d, Output::Overlay, io.photo);
        }
        io
    }

    /// Photos to path 1, from which every output is made; what follows is the head.
    fn features(&self, d: &mut PlanBuilder, photo: Buf, network: (usize, usize)) -> Buf {
        let normalise = Normalise { mean: self.config.mean, std: self.config.std.map(|std| std / self.scale) };
        let hooked = match &self.encoder {
            Encoder::Vit(vit) => vit.forward(d, photo, &normalise, network),
            Encoder::Resnet(resnet) => resnet.forward(d, photo, &normalise, network),
        };
        d.stage(Stage::Decoder);
        let path = self.decoder.forward(d, hooked, self.grid(network));
        d.stage(Stage::Head);
        path
    }

    /// (h, w) of the patch tokens; the ResNet has none.
    fn grid(&self, network: (usize, usize)) -> (usize, usize) {
        match self.config.image {
            ImageEncoder::Vit { patch, .. } => (network.0 / patch, network.1 / patch),
            ImageEncoder::Resnet { .. } => (0, 0),
        }
    }
}
