//! Results that are no numbers: a model with broken weights, or activations that float16 cannot hold. Nobody gets them as a result.

use half::f16;
use torch_file::elements::first_beyond;

use super::network::Shared;
use crate::checkpoint::printable;
use crate::error::{Error, Result};

/// Embeddings beyond this are no use: the squares of a vector of 65,536 such values just have a sum in float32.
const EMBEDDING: f32 = 1e16;

/// `count` pixels of so many were won by no number.
pub(super) fn check_winners(network: &Shared, count: u32, pixels: usize) -> Result<()> {
    match count {
        0 => Ok(()),
        count => Err(not_finite(network, &format!("{count} of {pixels} pixels have no finite score"))),
    }
}

/// `values` is `[batch, labels, pixels]`.
pub(super) fn check_scores(network: &Shared, names: &[String], values: &[f32], pixels: usize) -> Result<()> {
    match first_beyond(values, f32::MAX) {
        None => Ok(()),
        Some((i, value)) => {
            let label = printable(&names[i / pixels % names.len()]);
            Err(not_finite(network, &format!("label \"{label}\" scores {value} at pixel {}", i % pixels)))
        }
    }
}

/// Of `[pixels, embed_dim]` the values from the one numbered `first` on.
pub(super) fn check_embeddings(network: &Shared, values: &[f32], first: usize) -> Result<()> {
    match first_beyond(values, EMBEDDING) {
        None => Ok(()),
        Some((i, value)) => {
            let i = first + i;
            let channels = network.model.config.embed_dim;
            let (pixel, channel) = (i / channels, i % channels);
            Err(not_finite(network, &format!("channel {channel} of the embedding of pixel {pixel} is {value}")))
        }
    }
}

/// The text tower's output for a text.
pub(super) fn check_features(network: &Shared, text: &str, features: &[f32]) -> Result<()> {
    match first_beyond(features, f32::MAX) {
        None => Ok(()),
        Some((i, value)) => {
            let what = format!("channel {i} of the text tower's output for \"{}\" is {value}", printable(text));
            Err(not_finite(network, &what))
        }
    }
}

fn not_finite(network: &Shared, what: &str) -> Error {
    let why = if network.activation == size_of::<f16>() {
        "float16, in which a GPU computes, cannot hold this model's activations; pass --device cpu"
    } else {
        "the model's weights give no finite numbers; its file is damaged or made for another network"
    };
    Error::NotFinite(format!("{what}: {why}"))
}
