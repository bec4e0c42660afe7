"""What half precision leaves of a whole golden network in PyTorch: the bound for the one with planted outliers, which float16
cannot hold to a hundredth.

    python tests/golden/half_network.py vit16_relu

Every product's input, weights and result, LayerNorm's result and the attention's weights are rounded to float16; sums, the
residual stream, norms and logits stay float32: the types that the CUDA device has. Against the same network in float32.
"""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

import published
from clip_tokens import tokenizer
from generate import CASES, HERE
from lseg_reference import Lseg


def rounded(x):
    return x.half().float()


def in_half(model):
    """Rounds in place what the model computes from then on."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data = rounded(module.weight.data)
            module.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.LayerNorm):
            module.register_forward_hook(lambda _, inputs, result: rounded(result))
    softmax = torch.Tensor.softmax
    torch.Tensor.softmax = lambda x, dim: rounded(softmax(x, dim))


@torch.no_grad()
def forward(model, case):
    photo = np.array(Image.open(HERE / case.name / "photo_0.png"))[None]
    text = model.clip_pretrained(tokenizer(case.config["text"]["vocab"])(case.labels))
    hooks, maps = model.encode(model.normalise(photo))
    embedding, _, scores = model.score(model.decode(maps), text, case.extra_depth)
    return {f"hook{k}": hook for k, hook in enumerate(hooks, 1)} | {"embeddings": embedding, "scores": scores}


def main():
    case = next(case for case in CASES if case.name == sys.argv[1])
    model = published.load(HERE / case.name / "model.ckpt", Lseg(case.config)).float()
    expected = forward(model, case)
    in_half(model)
    for name, got in forward(model, case).items():
        right = expected[name]
        error = (got - right).norm() / right.norm()
        span = (got - right).abs().max() / (right.max() - right.min())
        cosine = F.cosine_similarity(got, right, dim=-1 if name.startswith("hook") else 1).min()
        print(f"{name}: relative error {error:.4f}, largest / range {span:.4f}, least cosine {cosine:.5f}")


if __name__ == "__main__":
    main()
