//! The network, written once over any [`Device`]: image encoder, decoder, head; text tower.

pub mod config;
pub mod dpt;
pub mod head;
pub mod recognise;
pub mod resnet;
pub mod scale;
pub mod tensors;
pub mod text;
pub mod vit;
pub mod weights;

use self::config::{Config, ImageEncoder};
use self::weights::Loader;
use crate::device::{Buf, Device, Element, Normalise, Similarity, Stage};
use crate::error::Result;

/// One LSeg: handles of its weights on a device, and how they are used.
pub struct Model {
    pub config: Config,
    /// Of the image's activations: see [`scale`].
    pub scale: f32,
    encoder: Encoder,
    decoder: dpt::Dpt,
    pub head: head::Head,
    pub text: text::Text,
}

enum Encoder {
    Vit(vit::Vit),
    Resnet(resnet::Resnet),
}

/// The sizes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameShape {
    pub batch: usize,
    /// (height, width) of the photo
    pub photo: (usize, usize),
    /// (height, width) of the network's input, multiples of 32
    pub network: (usize, usize),
}

/// What a frame must yield.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    pub mask: bool,
    /// The winning label's logit at each pixel of the mask, which is then wanted too.
    pub best: bool,
    /// The photo in colours that the host gives, one a label; the mask is then wanted too.
    pub overlay: bool,
    pub scores: bool,
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
    /// `[b, h0, w0, 3]`, u8
    pub overlay: Option<Buf>,
    /// `[b, labels, H, W]`
    pub scores: Option<Buf>,
    /// `[b, H/2, W/2, embed_dim]`
    pub embedding: Option<Buf>,
    /// `[b, 1, points, embed_dim]`
    pub sampled: Option<Buf>,
}

impl Model {
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
        d: &mut dyn Device,
        shape: FrameShape,
        bank: Option<&Similarity>,
        wanted: Outputs,
    ) -> FrameIo {
        let FrameShape { batch, photo: (h0, w0), network } = shape;
        let normalise = Normalise { mean: self.config.mean, std: self.config.std.map(|std| std / self.scale) };
        d.stage(Stage::Encoder);
        let photo = d.buffer("photo", [batch, h0, w0, 3], Element::U8);
        let points = (wanted.points > 0).then(|| d.buffer("points", [batch, 1, wanted.points, 2], Element::F32));
        let labels = bank.map(|bank| bank.labels.weight.n);
        let palette =
            labels.filter(|_| wanted.overlay).map(|labels| d.buffer("palette", [1, 1, labels, 4], Element::U8));
        for input in [Some(photo), points, palette].into_iter().flatten() {
            d.input(input);
        }
        let hooked = match &self.encoder {
            Encoder::Vit(vit) => vit.forward(d, photo, &normalise, network),
            Encoder::Resnet(resnet) => resnet.forward(d, photo, &normalise, network),
        };
        d.stage(Stage::Decoder);
        let path = self.decoder.forward(d, hooked, self.grid(network));
        d.stage(Stage::Head);
        let embedding = wanted.embedding.then(|| self.head.embedding(d, path));
        let sampled = points.map(|points| self.head.embedding_at(d, path, points, shape.photo));
        let logits = bank.filter(|_| wanted.scores || wanted.mask).map(|bank| self.head.scores(d, path, bank));
        if logits.is_some() {
            d.stage(Stage::Mask);
            d.scope("output", 0);
        }
        let scores = logits.filter(|_| wanted.scores).map(|logits| {
            let [b, h, w, n] = logits.shape;
            let scores = d.buffer("scores", [b, n, 2 * h, 2 * w], Element::F32);
            d.upsample_scores(logits, scores);
            scores
        });
        let mask = logits
            .filter(|_| wanted.mask)
            .map(|logits| d.buffer("mask", [batch, h0, w0, 1], Element::of_labels(logits.channels())));
        let best = mask.filter(|_| wanted.best).map(|mask| d.buffer("best", mask.shape, Element::F32));
        let not_finite = mask.map(|_| d.buffer("not_finite", [1; 4], Element::U32));
        if let (Some(logits), Some(mask), Some(not_finite)) = (logits, mask, not_finite) {
            d.argmax(logits, mask, best, not_finite);
        }
        let overlay = mask.zip(palette).map(|(mask, palette)| {
            let overlay = d.buffer("overlay", photo.shape, Element::U8);
            d.overlay(photo, mask, palette, overlay);
            overlay
        });
        for out in [embedding, sampled, scores, mask, best, not_finite, overlay].into_iter().flatten() {
            d.output(out);
        }
        FrameIo { photo, palette, points, mask, best, not_finite, overlay, scores, embedding, sampled }
    }

    /// (h, w) of the patch tokens; the ResNet has none.
    fn grid(&self, network: (usize, usize)) -> (usize, usize) {
        match self.config.image {
            ImageEncoder::Vit { patch, .. } => (network.0 / patch, network.1 / patch),
            ImageEncoder::Resnet { .. } => (0, 0),
        }
    }
}
