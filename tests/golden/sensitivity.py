"""Proves that the golden cases can fail: puts one slip after another into the reference and asks whether any tensor of
any case leaves the suite's tolerances; then those of `protocol_slips.py` into the ways of running whole photos. Exits
with 1 if a slip goes unnoticed.

    python tests/golden/sensitivity.py
"""

import contextlib
import copy
import sys
from unittest import mock

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

import lseg_reference
import protocol_slips
import published
from clip_tokens import tokenizer
from generate import CASES, HERE, batch_error, compared, tolerance
from lseg_reference import HeadBlock, Lseg

gelu, interpolate = F.gelu, F.interpolate


def set_all(model, kind, text, **values):
    """Sets attributes of every module of a kind, in the text tower or outside it."""
    for name, module in model.named_modules():
        if isinstance(module, kind) and name.startswith("clip_pretrained.") == text:
            for key, value in values.items():
                setattr(module, key, value)


def swap_readout(model):
    for k in range(1, 5):
        weight = getattr(model.pretrained, f"act_postprocess{k}")[0].project[0].weight
        weight.copy_(weight.roll(weight.shape[0], 1))


def transpose_positions(model):
    vit = model.pretrained.model
    square = vit.pos_embed[:, 1:].unflatten(1, (vit.grid, vit.grid))
    vit.pos_embed[:, 1:] = square.transpose(1, 2).flatten(1, 2).clone()


def aligned(corners, where):
    """F.interpolate with the other rule for the calls that name `where` ("size": positions, "scale_factor": ×2)."""
    return mock.patch.object(
        F, "interpolate", lambda x, **k: interpolate(x, **(k | ({"align_corners": corners} if where in k else {})))
    )


def without_first_relu(unit, x):
    return x + unit.bn2(unit.conv2(F.relu(unit.bn1(unit.conv1(x)))))


def quick_gelu_exact():
    """x·σ(1.702x) becomes x·Φ(x)."""
    return mock.patch.object(torch, "sigmoid", lambda x: torch.special.ndtr(x / 1.702))


def slips(config):
    """(name, what to do to the model, what to patch meanwhile) for everything that can go wrong in this network."""
    nothing = contextlib.nullcontext
    yield "text LayerNorm eps 1e-6", lambda m: set_all(m, nn.LayerNorm, True, eps=1e-6), nothing
    yield "BatchNorm eps 1e-6", lambda m: set_all(m, nn.BatchNorm2d, False, eps=1e-6), nothing
    yield "GELU for QuickGELU", None, quick_gelu_exact
    yield "no causal mask", None, lambda: mock.patch.object(torch.Tensor, "masked_fill", lambda x, mask, value: x)
    yield "x2 without aligned corners", None, lambda: aligned(False, "scale_factor")
    yield (
        "no first ReLU in the residual units",
        None,
        lambda: mock.patch.object(lseg_reference.ResidualConvUnit, "forward", without_first_relu),
    )
    other_mean = [0.5] * 3 if config["image"]["kind"] == "resnet" else [0.485, 0.456, 0.406]
    yield "another mean", lambda m: m.config.update(mean=other_mean), nothing
    if config["image"]["kind"] == "vit":
        yield from vit_slips(config, nothing)
    if config["head_block"]["kind"] != "none":
        yield from head_slips(config["head_block"], nothing)


def vit_slips(config, nothing):
    def early_hook(model):
        model.pretrained.model.hooks[1] -= 1

    def one_head(model):
        for block in model.pretrained.model.blocks:
            block.attn.heads = 1

    def tanh_gelu():
        return mock.patch.object(F, "gelu", lambda x, approximate="none": gelu(x, approximate="tanh"))

    yield "ViT LayerNorm eps 1e-5", lambda m: set_all(m, nn.LayerNorm, False, eps=1e-5), nothing
    yield "GELU by tanh", None, tanh_gelu
    yield "positions with aligned corners", None, lambda: aligned(True, "size")
    yield "positions transposed", transpose_positions, nothing
    yield "readout halves swapped", swap_readout, nothing
    yield "second hook one block early", early_hook, nothing
    if config["image"]["heads"] > 1:
        yield "one attention head", one_head, nothing


def head_slips(block, nothing):
    def kernel(model):
        return model.scratch.head_block.depthwise["depthwise"]

    other_kind = "depthwise" if block["kind"] == "bottleneck" else "bottleneck"
    yield "head block without bias", lambda m: kernel(m).bias.zero_(), nothing
    yield "head block flipped", lambda m: kernel(m).weight.copy_(kernel(m).weight.flip(-1)), nothing
    yield "head block transposed", lambda m: kernel(m).weight.copy_(kernel(m).weight.mT.clone()), nothing
    yield f"head block {other_kind}", lambda m: setattr(m.scratch.head_block, "kind", other_kind), nothing
    if block["depth"] > 1:
        for name, function in HeadBlock.ACTIVATIONS.items():
            if name != block["activation"]:
                change = lambda m, f=function: setattr(m.scratch.head_block, "activation", f)  # noqa: E731
                yield f"head block {name}", change, nothing
        for depth in (block["depth"] - 1, block["depth"] + 1):
            yield f"head block depth {depth}", lambda m, d=depth: m.config["head_block"].update(depth=d), nothing


def load(case, config):
    return published.load(HERE / case.name / "model.ckpt", Lseg(copy.deepcopy(config)).double())


def unnoticed(case, config):
    """Prints one line a slip and returns how many stayed within every tolerance."""
    photos = np.stack([np.array(Image.open(HERE / case.name / f"photo_{i}.png")) for i in range(2)])
    tokens = tokenizer(config["text"]["vocab"])(case.labels)
    reference, missed = load(case, config)(photos, tokens), 0
    for name, change, patch in slips(config):
        model = load(case, config)
        with torch.no_grad(), patch():
            if change:
                change(model)
            taps = model(photos, tokens)
        errors = {tap: batch_error(tap, taps[tap], reference[tap]) / tolerance(tap) for tap in compared(reference)}
        worst = max(errors, key=errors.get)
        missed += errors[worst] <= 1
        verdict = "noticed" if errors[worst] > 1 else "MISSED"
        print(f"{case.name:10} {name:36} {verdict}: {worst} at {errors[worst]:.3g} times its tolerance")
    return missed


def main():
    torch.set_num_threads(1)
    missed = protocol_slips.unnoticed()
    for case in CASES:
        missed += unnoticed(case, case.config)
        if case.extra_depth is not None:
            deeper = case.config | {"head_block": case.config["head_block"] | {"depth": case.extra_depth}}
            missed += unnoticed(case, deeper)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
