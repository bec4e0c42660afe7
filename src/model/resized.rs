//! A frame's embeddings at another size, in pieces of some channels: the whole would be larger than all other memory of a pass.

use super::input::Input;
use super::{FrameShape, Model};
use crate::ops::{Buf, Element, Picture, PlanBuilder, Stage};

/// How embeddings are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resizing {
    /// (height, width)
    pub size: (usize, usize),
    pub dtype: Element,
    /// Each pixel's vector is brought to length 1.
    pub normalise: bool,
    /// The most bytes of a piece, which has one channel at least.
    pub piece: usize,
}

/// The buffers of such a pass and where it pauses.
#[derive(Clone, Copy, Debug)]
pub struct ResizedIo {
    /// Filled by the host
    pub photo: Picture,
    /// `[1, H/2, W/2, embed_dim]`: the map that is resized, there from step `made` on
    pub map: Buf,
    /// `[1, 1, 1, 1]`, u32: the piece's first channel; filled by the host before the last step, each time that it runs
    pub first: Buf,
    /// `[1, channels, height, width]`
    pub piece: Buf,
    /// Steps of the frame, which leave the map; those behind them make lengths and then, the last one, a piece.
    pub made: usize,
}

impl Model {
    /// One frame, from photo to a piece of its resized embeddings.
    pub fn forward_resized(&self, d: &mut PlanBuilder, shape: FrameShape, resizing: &Resizing) -> ResizedIo {
        let FrameShape { batch, photo: size, format, network, normalisation } = shape;
        let (height, width) = resizing.size;
        d.stage(Stage::Encoder);
        let photo = d.picture("photo", format, batch, size);
        d.input(photo.buf);
        let path = self.features(d, &Input::Photos(photo), self.normalise(normalisation), network);
        let map = self.head.embedding(d, path);
        let made = d.steps.len();

        d.scope("resized", 0);
        let norms = resizing.normalise.then(|| {
            let norms = d.buffer("norms", [1, height, width, 1], Element::F32);
            d.feature_norms(map, norms);
            norms
        });
        let first = d.buffer("first", [1; 4], Element::U32);
        let plane = height * width * resizing.dtype.bytes(0);
        let channels = (resizing.piece / plane).clamp(1, map.channels());
        let piece = d.buffer("piece", [1, channels, height, width], resizing.dtype);
        // A vector's length has the scale in it already.
        let factor = if resizing.normalise { 1.0 } else { 1.0 / self.scale };
        d.resize_features(map, first, norms, factor, piece);
        d.output(piece);
        ResizedIo { photo, map, first, piece, made }
    }
}
