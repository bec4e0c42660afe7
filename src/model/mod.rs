//! The network, written once over any `Device`: image encoder, decoder, head; text tower.

pub mod config;
pub mod detect;

// The rest is for the engine, the tests and the benches; nothing of it promises to stay as it is.
#[doc(hidden)]
pub mod dpt;
#[doc(hidden)]
pub mod head;
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

/// What a frame must yield.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Each pixel's label.
    pub mask: bool,
    /// The winning label's logit at each pixel of the mask, which is then wanted too.
    pub best: bool,
    /// The photo in colours that the host gives, one a label; the mask is then wanted too.
    pub overlay: bool,
    /// Every label's logit at each pixel of the network's input.
    pub scores: bool,
    /// Softmax of the scores over the labels; the mask is then wanted too.
    pub probabilities: bool,
    /// The pixels' embeddings at half the network's size.
    pub embedding: bool,
    /// Embeddings at so many points of each photo.
    pub points: usize,
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
    /// `[b, h0, w0, 1]`, u16
    pub mask: Option<Buf>,
    /// `[b, h0, w0, 1]`
    pub best: Option<Buf>,
    /// `[1, 1, 1, 1]`, u32, beside a mask: pixels whose winning score is no finite number
    pub not_finite: Option<Buf>,
    /// `[b, h0, w0, 3]`, u8: the photo's own place, tinted
    pub overlay: Option<Buf>,
    /// `[b, labels, H, W]`
    pub scores: Option<Buf>,
    /// `[b, labels, H, W]`
    pub probabilities: Option<Buf>,
    /// `[b, H/2, W/2, embed_dim]`
    pub embedding: Option<Buf>,
    /// `[b, 1, points, embed_dim]`
    pub sampled: Option<Buf>,
}

impl FrameIo {
    /// The photo alone; the rest comes with what is wanted.
    fn of(photo: Buf) -> FrameIo {
        FrameIo {
            photo,
            palette: None,
            points: None,
            mask: None,
            best: None,
            not_finite: None,
            overlay: None,
            scores: None,
            probabilities: None,
            embedding: None,
            sampled: None,
        }
    }
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
        let normalise = Normalise { mean: self.config.mean, std: self.config.std.map(|std| std / self.scale) };
        d.stage(Stage::Encoder);
        let photo = d.buffer("photo", [batch, h0, w0, 3], Element::U8);
        d.input(photo);
        let mut io = FrameIo::of(photo);
        if wanted.points > 0 {
            let points = d.buffer("points", [batch, 1, wanted.points, 2], Element::F32);
            d.input(points);
            io.points = Some(points);
        }
        if wanted.overlay
            && let Some(bank) = bank
        {
            let palette = d.buffer("palette", [1, 1, bank.labels.weight.n, 4], Element::U8);
            d.input(palette);
            io.palette = Some(palette);
        }

        let hooked = match &self.encoder {
            Encoder::Vit(vit) => vit.forward(d, photo, &normalise, network),
            Encoder::Resnet(resnet) => resnet.forward(d, photo, &normalise, network),
        };
        d.stage(Stage::Decoder);
        let path = self.decoder.forward(d, hooked, self.grid(network));

        d.stage(Stage::Head);
        if wanted.embedding {
            let embedding = self.head.embedding(d, path);
            d.output(embedding);
            io.embedding = Some(embedding);
        }
        if let Some(points) = io.points {
            let sampled = self.head.embedding_at(d, path, points, shape.photo);
            d.output(sampled);
            io.sampled = Some(sampled);
        }
        let Some(bank) = bank.filter(|_| wanted.scores || wanted.mask) else { return io };
        let logits = self.head.scores(d, path, bank);

        d.stage(Stage::Mask);
        d.scope("output", 0);
        if wanted.scores {
            let [b, h, w, n] = logits.shape;
            let scores = d.buffer("scores", [b, n, 2 * h, 2 * w], Element::F32);
            d.upsample_scores(logits, scores);
            d.output(scores);
            io.scores = Some(scores);
        }
        if !wanted.mask {
            return io;
        }
        if wanted.probabilities {
            let [b, h, w, n] = logits.shape;
            let probabilities = d.buffer("probabilities", [b, n, 2 * h, 2 * w], Element::F32);
            d.upsample_scores(logits, probabilities);
            let lse = d.buffer("lse", [b, 1, 2 * h, 2 * w], Element::F32);
            d.softmax_scores(lse, probabilities);
            d.output(probabilities);
            io.probabilities = Some(probabilities);
        }
        let mask = d.buffer("mask", [batch, h0, w0, 1], Element::of_labels(logits.channels()));
        if wanted.best {
            io.best = Some(d.buffer("best", mask.shape, Element::F32));
        }
        let not_finite = d.buffer("not_finite", [1; 4], Element::U32);
        d.argmax(logits, mask, io.best, not_finite);
        for out in [Some(mask), io.best, Some(not_finite)].into_iter().flatten() {
            d.output(out);
        }
        (io.mask, io.not_finite) = (Some(mask), Some(not_finite));
        if let Some(palette) = io.palette {
            d.overlay(mask, palette, photo);
            d.output(photo);
            io.overlay = Some(photo);
        }
        io
    }

    /// (h, w) of the patch tokens; the ResNet has none.
    fn grid(&self, network: (usize, usize)) -> (usize, usize) {
        match self.config.image {
            ImageEncoder::Vit { patch, .. } => (network.0 / patch, network.1 / patch),
            ImageEncoder::Resnet { .. } => (0, 0),
        }
    }
}
