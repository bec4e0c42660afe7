//! Results that are no numbers: a model with broken weights, or activations that float16 cannot hold. Nobody gets them as a result.

use half::f16;
use torch_file::elements::first_beyond;

use super::Engine;
use crate::checkpoint::printable;
use crate::error::{Error, Result};
use crate::model::FrameIo;

/// Embeddings beyond this are no use: the squares of a vector of 65,536 such values just have a sum in float32.
const EMBEDDING: f32 = 1e16;

impl Engine {
    /// Of the last pass: each pixel's label won by a number.
    pub(super) fn check_winners(&mut self, io: FrameIo) -> Result<()> {
        let (mask, place) = (io.mask.expect("a pass for a mask has one"), io.not_finite.expect("and this beside it"));
        let mut count = [0u32];
        let program = &self.sessions.last().expect("a session has just run").program;
        self.device.read(program, place, 0, bytemuck::cast_slice_mut(&mut count))?;
        match count[0] {
            0 => Ok(()),
            count => Err(self.not_finite(&format!("{count} of {} pixels have no finite score", mask.len()))),
        }
    }

    /// `values` is `[labels, pixels]`.
    pub(super) fn check_scores(&self, values: &[f32], pixels: usize) -> Result<()> {
        match first_beyond(values, f32::MAX) {
            None => Ok(()),
            Some((i, value)) => {
                let label = printable(&self.labels[i / pixels]);
                Err(self.not_finite(&format!("label \"{label}\" scores {value} at pixel {}", i % pixels)))
            }
        }
    }

    /// `values` is `[pixels, embed_dim]`.
    pub(super) fn check_embeddings(&self, values: &[f32]) -> Result<()> {
        match first_beyond(values, EMBEDDING) {
            None => Ok(()),
            Some((i, value)) => {
                let channels = self.model.config.embed_dim;
                let (pixel, channel) = (i / channels, i % channels);
                Err(self.not_finite(&format!("channel {channel} of the embedding of pixel {pixel} is {value}")))
            }
        }
    }

    /// The text tower's output for a text.
    pub(super) fn check_features(&self, text: &str, features: &[f32]) -> Result<()> {
        match first_beyond(features, f32::MAX) {
            None => Ok(()),
            Some((i, value)) => {
                let what = format!("channel {i} of the text tower's output for \"{}\" is {value}", printable(text));
                Err(self.not_finite(&what))
            }
        }
    }

    fn not_finite(&self, what: &str) -> Error {
        let why = if self.device.activation_bytes() == size_of::<f16>() {
            "float16, in which a GPU computes, cannot hold this model's activations; pass --device cpu"
        } else {
            "the model's weights give no finite numbers; its file is damaged or made for another network"
        };
        Error::NotFinite(format!("{what}: {why}"))
    }
}
