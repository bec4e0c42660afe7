"""The demo's network: `training/lseg_train/network.py` at the demo's sizes, and its scores of single pixels."""

import torch
from lseg_train import architecture
from lseg_train import network as lseg
from lseg_train.network import LOGIT_SCALE

from tokenizer import CONTEXT, VOCABULARY

EMBEDDING = 256
TEXT = {"width": 192, "layers": 3, "heads": 3, "mlp": 768}
RESNET = {"stem": 32, "blocks": (2, 2, 2, 2), "planes": (32, 64, 128, 256)}
FEATURES = 64
MEAN, STD = 0.5, 0.5

CONFIG = architecture.network(
    architecture.resnet(**RESNET),
    FEATURES,
    {"vocab": VOCABULARY, "context": CONTEXT, **TEXT},
    EMBEDDING,
    block=architecture.head_block(activation="relu"),
    mean=[MEAN] * 3,
    std=[STD] * 3,
    size=192,
    preset="demo",
)


class TextTower(lseg.TextTower):
    def __init__(self, **sizes):
        super().__init__(EMBEDDING, VOCABULARY, CONTEXT, **sizes)


class ImageModel(lseg.ImageModel):
    def __init__(self):
        super().__init__(CONFIG)

    def scores(self, path, texts):
        """Path 1 as pixels [n, p, FEATURES], unit label vectors [n or 1, labels, EMBEDDING] -> [n, p, labels]:
        1/0.07 · cosine(head1(path), text), without forming head1's output (EMBEDDING > FEATURES)."""
        weight, bias = self.scratch.head1.weight[:, :, 0, 0], self.scratch.head1.bias
        texts = texts.expand(len(path), -1, -1)
        dots = torch.baddbmm((texts @ bias).unsqueeze(1), path, (texts @ weight).transpose(1, 2))
        squares = ((path @ (weight.T @ weight)) * path).sum(-1) + 2 * (path @ (weight.T @ bias)) + bias @ bias
        return LOGIT_SCALE * dots * torch.rsqrt(squares.clamp_min(1e-6)).unsqueeze(-1)


def pixels(path):
    """[n, c, h, w] -> [n, h·w, c]"""
    return path.flatten(2).transpose(1, 2)
