//! ReLU networks in float16: the same function at a smaller scale, so that large activations fit.
//!
//! Convolution without its bias, ReLU, max-pooling, bilinear resizing and sums all satisfy f(s·x) = s·f(x) for s > 0. So with the
//! normalised image and every bias of the ResNet, the decoder and the head multiplied by s, every activation is s times what it
//! was, and the cosine with a label is the same. For a power of two that is exact: float16 rounds s·x as it rounds x, and what
//! is summed in float32 stays in its range. Only embeddings must be multiplied by 1/s. A ViT has LayerNorm, softmax and GELU
//! in between and cannot be scaled so.

use super::config::{Config, ImageEncoder};

/// Of a ResNet in float16: activations up to 65504 · 64 = 4.2 million fit. Published ResNets, of which a decoder without a
/// norm at its outputs sums four levels, leave float16's range in places; none is known to leave this one, and a frame that does
/// is an error. A constant, so that a model gives the same bits whatever it saw before. The price is at the other end: below
/// 2⁻¹⁴ · 64 = 0.004 float16 rounds to steps of 2⁻¹⁸, a 64th of those in which it holds an image's values near 1.
const RESNET: f32 = 1.0 / 64.0;

/// s for a model whose activations are float16 or not.
pub fn of(config: &Config, is_half: bool) -> f32 {
    match config.image {
        ImageEncoder::Resnet { .. } if is_half => RESNET,
        _ => 1.0,
    }
}

/// Whether the buffers of this name are s times what the network defines.
pub fn scales(buffer: &str) -> bool {
    !["logits", "regularised", "scores", "best"].contains(&buffer)
}
