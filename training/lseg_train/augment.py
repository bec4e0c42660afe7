"""What a sample becomes before the network sees it: PyTorch-Encoding's random scale and crop, which LSeg was trained
with, and the resize of validation."""

import numpy as np
from PIL import Image

from .samples import IGNORED

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
CONTRAST, SHIFT = 0.15, 0.1
"""Spread of the gain and of each channel's shift at jitter 1, of values from -1 to 1 (as in weights/train/image.py)."""


def augmented(sample, rng, crop, base, scales=(0.5, 2.0), mirror=True, pad=IGNORED, jitter=0.0):
    """A random square of a sample -> (photo u8 [crop, crop, 3], truth int16 [crop, crop]).

    Mirrored half of the time; the longer side is a whole number of `base` times `scales`, both ends among them; what is
    smaller than the square is filled right and below, with black and `pad`. `jitter` changes contrast and colours of
    the photo's own pixels."""
    photo, truth = sample.photo, sample.truth
    if mirror and rng.random() < 0.5:
        photo, truth = photo[:, ::-1], truth[:, ::-1]
    height, width = truth.shape
    long_side = int(rng.integers(int(base * scales[0]), int(base * scales[1]), endpoint=True))
    if height > width:
        size = max(int(width * long_side / height + 0.5), 1), long_side
    else:
        size = long_side, max(int(height * long_side / width + 0.5), 1)
    x, y = (int(rng.integers(0, max(side - crop, 0), endpoint=True)) for side in size)
    cut = np.s_[y : y + crop, x : x + crop]
    photo = np.asarray(Image.fromarray(np.ascontiguousarray(photo)).resize(size, BILINEAR))[cut]
    truth = np.asarray(Image.fromarray(truth.astype(np.int32)).resize(size, NEAREST))[cut]
    if jitter > 0:
        photo = jittered(photo, rng, jitter)
    rows, columns = truth.shape
    photos, truths = np.zeros((crop, crop, 3), np.uint8), np.full((crop, crop), pad, np.int16)
    photos[:rows, :columns], truths[:rows, :columns] = photo, truth
    return photos, truths


def jittered(photo, rng, strength):
    """Another contrast around middle grey, and each channel shifted; u8 [h, w, 3]."""
    gain, shift = 1 + CONTRAST * strength * rng.standard_normal(), SHIFT * strength * rng.standard_normal(3)
    changed = (photo - np.float32(127.5)) * np.float32(gain) + np.float32(127.5) * (1 + shift).astype(np.float32)
    return np.rint(changed).clip(0, 255).astype(np.uint8)


def fitted(photo, long_side, step):
    """The photo at the size that the program takes it at: the longer side `long_side`, then each side rounded to the
    nearest multiple of `step`, halves up, and at least that."""
    height, width = photo.shape[:2]
    unit = step * max(height, width)
    width, height = (max((2 * side * long_side + unit) // (2 * unit), 1) * step for side in (width, height))
    return np.asarray(Image.fromarray(photo).resize((width, height), BILINEAR))
