//! Results that are no numbers: a model with broken weights, or activations that float16 cannot hold. Nobody gets them as a result.

use half::f16;
use torch_file::elements::first_beyond;

use super::network::Shared;
use crate::checkpoint::printable;
use crate::error::{Error, Result};
use crate::model::{Count, FrameIo, LARGEST_EMBEDDING, Output};
use crate::ops::{Buf, Element};

/// What the pass itself counted, of which `read` brings the numbers.
pub(super) fn check_counts(network: &Shared, io: &FrameIo, mut read: impl FnMut(Buf) -> Result<u32>) -> Result<()> {
    io.counts().try_for_each(|count| check_count(is_half(network), &count, read(count.place)?))
}

/// What the windows of a photo counted of the rows that lie in `of`.
pub(super) fn check_windows(network: &Shared, output: Output, of: Buf, found: u32) -> Result<()> {
    let count = Count { output, values: of.len(), element: of.element, place: of };
    check_count(is_half(network), &count, found)
}

/// A count of a pass whose activations were float16 or not.
pub(super) fn check_count(is_half: bool, count: &Count, found: u32) -> Result<()> {
    let Count { output, values, element, .. } = count;
    match (found, output) {
        (0, _) => Ok(()),
        (_, Output::Mask) => Err(error(is_half, &format!("{found} of {values} pixels have no finite score"))),
        _ if *element == Element::F16 => Err(Error::NotFinite(format!(
            "{found} of {values} values of embeddings are no finite float16: ask for float32, or for vectors of length 1"
        ))),
        _ => Err(error(is_half, &format!("{found} of {values} values of embeddings are no finite numbers"))),
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
    match first_beyond(values, LARGEST_EMBEDDING) {
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
    error(is_half(network), what)
}

fn is_half(network: &Shared) -> bool {
    network.activation == size_of::<f16>()
}

fn error(is_half: bool, what: &str) -> Error {
    let why = if is_half {
        "float16, in which a GPU computes, cannot hold this model's activations; pass --device cpu"
    } else {
        "the model's weights give no finite numbers; its file is damaged or made for another network"
    };
    Error::NotFinite(format!("{what}: {why}"))
}
