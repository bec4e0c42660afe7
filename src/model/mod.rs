//! The network, written once over any `Device`: image encoder, decoder, head; text tower.

pub mod config;
pub mod detect;
mod output;

// The rest is for the engine, the tests and the benches; nothing of it promises to stay as it is.
#[doc(hidden)]
pub mod compose;
#[doc(hidden)]
pub mod dpt;
#[doc(hidden)]
pub mod head;
#[doc(hidden)]
pub mod input;
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
#[doc(hidden)]
pub mod windows;

use self::config::{Config, ImageEncoder};
use self::input::Input;
pub(crate) use self::output::LARGEST_EMBEDDING;
pub use self::output::{
    Count, EmbeddingForm, FrameIo, Layout, MapSize, Output, Outputs, Threshold, UNLABELLED, UNLABELLED_8,
};
use self::weights::{Loader, TensorSpec};
use crate::error::Result;
use crate::image::npy::Dtype;
use crate::ops::patchify::Normalise;
use crate::ops::{Argmax, Buf, Element, FormFeatures, Linear, PlanBuilder, Stage};
use crate::pixels::Format;
use crate::protocol::Normalisation;

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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameShape {
    /// Frames at once.
    pub batch: usize,
    /// (height, width) of the photo
    pub photo: (usize, usize),
    /// Of the photos.
    pub format: Format,
    /// (height, width) of the network's input, multiples of 32
    pub network: (usize, usize),
    /// Where it is another than the model's.
    pub normalisation: Option<Normalisation>,
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
    pub fn forward(&self, d: &mut PlanBuilder, shape: FrameShape, bank: Option<&Linear>, wanted: Outputs) -> FrameIo {
        let network = shape.network;
        d.stage(Stage::Encoder);
        let labels = bank.map_or(0, |bank| bank.weight.n);
        let mut io = FrameIo::declare(d, &shape, labels, wanted);
        let map = self.features(d, &Input::Photos(io.photo), self.normalise(shape.normalisation), network);
        if wanted.has(Output::Embedding) {
            let embedding = self.head.embedding(d, map);
            if wanted.on_device || wanted.embedding != EmbeddingForm::default() {
                self.give_formed(d, &mut io, Output::Embedding, embedding, wanted.embedding, &shape);
            } else {
                io.give(d, Output::Embedding, embedding);
            }
        }
        if let Some(points) = io.points {
            let sampled = self.head.embedding_at(d, map, points, shape.photo);
            if wanted.on_device {
                self.give_formed(d, &mut io, Output::Points, sampled, EmbeddingForm::default(), &shape);
            } else {
                io.give(d, Output::Points, sampled);
            }
        }
        let Some(bank) = bank.filter(|_| wanted.need_labels()) else { return io };
        let logits = self.head.scores(d, map, bank);

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
        if wanted.need_mask() {
            self.give_mask(d, &mut io, logits, wanted, shape);
        }
        io
    }

    /// The mask and what is made beside it and of it.
    fn give_mask(&self, d: &mut PlanBuilder, io: &mut FrameIo, logits: Buf, wanted: Outputs, shape: FrameShape) {
        let FrameShape { batch, photo: (h0, w0), .. } = shape;
        let unlabelled = wanted.threshold.is_some();
        let mask = d.buffer("mask", [batch, h0, w0, 1], Element::of_mask(logits.channels(), unlabelled));
        let mut beside = |output, name, element| wanted.has(output).then(|| d.buffer(name, mask.shape, element));
        let best = beside(Output::Best, "best", Element::F32);
        let confidence = beside(Output::Confidence, "confidence", Element::U8);
        let not_finite = d.buffer("not_finite", [1; 4], Element::U32);
        let threshold = wanted.threshold.map(Threshold::value);
        d.push(Argmax { logits, resized: true, mask, best, not_finite, confidence, threshold });
        let given = [(Output::Mask, Some(mask)), (Output::Mask8, Some(mask)), (Output::Best, best)];
        for (output, buf) in given.into_iter().chain([(Output::Confidence, confidence)]) {
            if let Some(buf) = buf.filter(|_| wanted.has(output)) {
                io.give(d, output, buf);
            }
        }
        io.count(d, Output::Mask, mask, not_finite);
        if let Some(palette) = io.palette {
            let photo = d.as_rgb(io.photo);
            d.overlay(mask, palette, photo, unlabelled);
            io.give(d, Output::Overlay, photo);
        }
    }

    /// A map of embeddings as the network defines them, in a form.
    fn give_formed(
        &self,
        d: &mut PlanBuilder,
        io: &mut FrameIo,
        output: Output,
        map: Buf,
        form: EmbeddingForm,
        shape: &FrameShape,
    ) {
        d.scope("form", 0);
        let EmbeddingForm { at, dtype, layout, normalise } = form;
        let [batch, h, w, channels] = map.shape;
        let size = at.resized(shape).unwrap_or((h, w));
        let element = if dtype == Dtype::F16 { Element::F16 } else { Element::F32 };
        let norms = normalise.then(|| d.buffer("norms", [batch, size.0, size.1, 1], Element::F32));
        let out = d.buffer("formed", layout.shape(batch, size, channels), element);
        let not_finite = d.buffer("not_finite", [1; 4], Element::U32);
        d.form_features(FormFeatures {
            x: map,
            resized: at.resized(shape).is_some(),
            norms,
            // A vector's length has the scale in it already.
            factor: if normalise { 1.0 } else { 1.0 / self.scale },
            limit: self.scale * LARGEST_EMBEDDING,
            layout,
            out,
            not_finite,
        });
        io.give(d, output, out);
        io.count(d, output, out, not_finite);
    }

    /// Photos or windows to the decoder's map, from which every output is made; what follows is the head.
    fn features(&self, d: &mut PlanBuilder, input: &Input, normalise: Normalise, network: (usize, usize)) -> Buf {
        let hooked = match &self.encoder {
            Encoder::Vit(vit) => vit.forward(d, input, &normalise, network),
            Encoder::Resnet(resnet) => resnet.forward(d, input, &normalise, network),
        };
        d.stage(Stage::Decoder);
        let map = self.decoder.forward(d, hooked, self.grid(network));
        d.stage(Stage::Head);
        map
    }

    /// (h, w) of the patch tokens; the ResNet has none.
    fn grid(&self, network: (usize, usize)) -> (usize, usize) {
        match self.config.image {
            ImageEncoder::Vit { patch, .. } => (network.0 / patch, network.1 / patch),
            ImageEncoder::Resnet { .. } => (0, 0),
        }
    }
}
