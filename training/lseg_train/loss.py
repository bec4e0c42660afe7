"""Cross-entropy of the scores at the photo's size (LSeg, section 3.2; the published code's SegmentationLosses)."""

import torch
from torch.nn import functional as F

from .network import FAR_BELOW, upsample


def normalised(images, config):
    """u8 [n, h, w, 3] -> float32 [n, 3, h, w]."""
    mean, std = (torch.tensor(config[k], device=images.device).view(1, 3, 1, 1) for k in ("mean", "std"))
    x = images.permute(0, 3, 1, 2).float()
    return ((x / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def full_size_scores(model, x, texts, offered=None, regularise=True):
    """[n, labels, h, w]: twice the network's map; labels that are not offered lie far below."""
    scores = model.scores(model(x), texts, offered, regularise)
    if offered is not None:
        scores = scores.masked_fill(~offered, FAR_BELOW)
    return upsample(scores)


def cross_entropy(scores, answers):
    """Sum over the pixels that have an answer."""
    return F.cross_entropy(scores, answers, ignore_index=-1, reduction="sum")
