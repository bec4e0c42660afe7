"""Whether LayerNorm may be folded into the product after it: what either form leaves of the golden networks and of vitl16.

    python tests/golden/folding.py              # the golden networks, plain and under stress, and the demo's text tower
    python tests/golden/folding.py --full 224   # vitl16 with seeded weights on a photo of 224×224 instead

Either takes about ten minutes on one core.

A block's LayerNorm and product, LN(x)·Wᵀ + b, are computed as the CUDA device does today (the norm in float32, its result
rounded to float16) or folded: W' = W·diag(γ) rounded to float16, b' = b + W·β, and (x̂·W'ᵀ − mean·ΣW')/std + b' with x̂
the residual stream rounded to float16. Sums, norms and the stream are float32, all else that a block stores is float16.
What surrounds the blocks is float64 ("blocks") or rounds as half_network.py does ("whole"). Errors are against float64.
Results: docs/layer-norm-folding.md.
"""

import argparse
import copy
import importlib.util
import json
import sys
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open

import full_size_case
import published
import seeded
from clip_tokens import tokenizer
from full_size import PHOTO
from generate import CASES, HERE
from half_network import in_half, rounded
from lseg_reference import Clip, Lseg, TextBlock, VitBlock

DECIDED = full_size_case.FLOAT16[1]  # of the range, as tests/cuda/golden.rs has it
DEMO, CLIP = HERE.parents[1] / "weights" / "demo", "clip_pretrained."
PHOTOS = 32  # seeded photos of a golden network; the first two are the stored ones
DRAWS = 8  # the network and seven neighbours


@dataclass
class Form:
    name: str
    folded: bool = True
    of_rounded: bool = True  # mean and variance of x̂, not of x
    centred: bool = False  # the rows of W' lose their mean, so that x·W'ᵀ needs no mean subtracted ...
    corrected: bool = True  # ... but for what rounding leaves of it
    shifted: bool = False  # x̂ is x less the row's mean before the last addition
    scale: float = 1.0  # x̂ is stored multiplied by it


FORMS = [
    Form("today", folded=False),
    Form("folded, statistics of x", of_rounded=False),
    Form("folded"),
    Form("folded, x/64", scale=1 / 64),
    Form("folded, centred", centred=True),
    Form("folded, centred, uncorrected", centred=True, corrected=False),
    Form("folded, shifted", shifted=True),
]
STRESSED = [FORMS[i] for i in (0, 3, 6)]


def statistics(x, tile=64):
    """Mean and variance of rows: a sum and a centred sum of squares for each tile, joined in order (Chan et al.)."""
    sums = x.unflatten(-1, (-1, tile)).sum(-1)
    squares = (x.unflatten(-1, (-1, tile)) - sums[..., None] / tile).square().sum(-1)
    mean, square = sums[..., 0] / tile, squares[..., 0]
    for i in range(1, sums.shape[-1]):
        delta = sums[..., i] / tile - mean
        mean = mean + delta / (i + 1)
        square = square + squares[..., i] + delta.square() * (tile * i / (i + 1))
    return mean[..., None], square[..., None] / x.shape[-1]


def reader(form, norm, weight, bias):
    """LayerNorm and the product after it, as a function of the float32 stream and of a shift for each row."""
    gamma, beta, eps = norm.weight.double(), norm.bias.double(), norm.eps
    if not form.folded:
        weight, bias, gamma, beta = rounded(weight), bias.float(), gamma.float(), beta.float()
        return lambda x, _: F.linear(rounded(F.layer_norm(x, gamma.shape, gamma, beta, eps)), weight, bias)
    bias = (bias.double() + weight.double() @ beta).float()
    weight = weight.double() * gamma
    if form.centred:
        weight = weight - weight.mean(1, keepdim=True)
    weight = rounded(weight)
    columns = weight.double().sum(1).float()

    def read(x, shift):
        x = x - shift if form.shifted else x
        operand = rounded(x * form.scale) / form.scale
        mean, variance = statistics(operand if form.of_rounded else x)
        product = F.linear(operand, weight)
        product = product - mean * columns if form.corrected else product
        return product * (variance + eps).rsqrt() + bias

    return read


def block(form, module):
    """A transformer block with the device's types, as a function of the stream."""
    text = isinstance(module, TextBlock)
    attn, mlp = module.attn, module.mlp
    norms = (module.ln_1, module.ln_2) if text else (module.norm1, module.norm2)
    qkv = (attn.in_proj_weight, attn.in_proj_bias) if text else (attn.qkv.weight, attn.qkv.bias)
    proj, (fc1, fc2) = attn.out_proj if text else attn.proj, mlp.values()
    first, second = reader(form, norms[0], *qkv), reader(form, norms[1], fc1.weight, fc1.bias)
    write = [(rounded(linear.weight), linear.bias.float()) for linear in (proj, fc2)]

    def forward(x):
        # What the shifted form subtracts: the row means before the last addition; in the first block, of all tokens.
        kept, (x, before) = x.dtype, (x.float(), getattr(x, "before", x.mean().float()))
        q, k, v = rounded(first(x, before)).unflatten(-1, (3, attn.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=text)
        middle = x + F.linear(rounded(attended.transpose(1, 2).flatten(2)), *write[0])
        hidden = second(middle, x.mean(-1, keepdim=True))
        hidden = hidden * torch.sigmoid(1.702 * hidden) if text else F.gelu(hidden)
        out = (middle + F.linear(rounded(hidden), *write[1])).to(kept)
        out.before = middle.mean(-1, keepdim=True)
        return out

    return forward


def with_form(model, form, whole):
    """A copy of the model whose blocks compute in this form; in `whole`, the rest rounds too."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, VitBlock | TextBlock):
            module.forward = block(form, module)
    if whole:
        if form.scale != 1.0 and model.config["image"]["kind"] == "vit":  # the readouts read the same copy
            for k in range(1, 5):
                readout = getattr(model.pretrained, f"act_postprocess{k}")[0].project[0]
                readout.weight /= form.scale
                readout.register_forward_pre_hook(lambda _, inputs: (inputs[0] * form.scale,))
        in_half(model.float())
    return model


def neighbours(model, draws):
    """The model, and others whose norms' γ differ from its by 1 %, so that every rounding falls differently."""
    for draw in range(draws):
        chance, other = torch.Generator().manual_seed(draw), copy.deepcopy(model)
        for module in other.modules():
            if isinstance(module, nn.LayerNorm) and draw:
                module.weight *= 1 + 0.01 * torch.randn(module.weight.shape, generator=chance)
        yield other


def run(model, pixels, tokens, depth, words=None):
    """Label vectors, hooks and scores: those of `words` where given, so that the text tower's errors are not theirs."""
    text = model.clip_pretrained(tokens)
    hooks, maps = model.encode(model.normalise(pixels))
    scores = model.score(model.decode(maps), text if words is None else words.to(text), depth)[2]
    return text.double(), [hook.double() for hook in hooks], scores.double()


def numbers(got, expected):
    """The relative errors of label vectors and hooks (`channel`: of a hook's worst channel); the logits' largest and mean error
    as shares of their range, `typical` the median photo's largest; the part of the decided pixels that agrees."""
    relative = lambda a, b: ((a - b).norm() / b.norm()).item()
    worst = lambda a, b: max(relative(a[..., i], b[..., i]) for i in range(b.shape[-1]))
    (text, hooks, scores), (right_text, right_hooks, right) = got, expected
    span = right.amax((1, 2, 3)) - right.amin((1, 2, 3))
    error = (scores - right).abs() / span[:, None, None, None]
    best = right.topk(2, 1).values
    decided = best[:, 0] - best[:, 1] > DECIDED * span[:, None, None]
    same = (scores.argmax(1) == right.argmax(1))[decided].double().mean().item()
    assert decided.double().mean() > 0.2
    if not error.isfinite().all():
        return dict.fromkeys(("text", "hooks", "channel", "max", "typical", "mean", "agree"), float("nan"))
    return {
        "text": relative(text, right_text),
        "hooks": max(map(relative, hooks, right_hooks)),
        "channel": max(map(worst, hooks, right_hooks)),
        "max": error.amax().item(),
        "typical": error.amax((1, 2, 3)).median().item(),
        "mean": error.mean().item(),
        "agree": same,
    }


# -------------------------------------------------------------------------------------------------------------- stresses


def streams(model, pixels):
    """What every LayerNorm of the image encoder reads, in order."""
    seen, handles = [], []
    for part in model.pretrained.model.blocks:
        for norm in (part.norm1, part.norm2):
            handles.append(norm.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0])))
    model.pretrained.model(model.normalise(pixels))
    for handle in handles:
        handle.remove()
    return seen


def offset(model, pixels, ratio):
    """Gives the median row of the stream a mean of `ratio` times its standard deviation. No LayerNorm sees it and the readouts
    subtract it: the network computes what it did."""
    vit = model.pretrained.model
    sizes = [x.std(-1).median() for x in streams(model, pixels)][::2]
    vit.pos_embed += ratio * sizes[0]
    for part, before, after in zip(vit.blocks, sizes, sizes[1:]):
        part.mlp["fc2"].bias += ratio * (after - before)
    means = [ratio * size for size in sizes[1:]] + [ratio * sizes[-1]]
    for k, hook in enumerate(vit.hooks, 1):
        readout = getattr(model.pretrained, f"act_postprocess{k}")[0].project[0]
        readout.bias -= means[hook] * readout.weight.sum(1)


def louder(model, factor):
    """Multiplies the whole stream. LayerNorm sees nothing of it but a smaller eps, and the readouts divide."""
    vit = model.pretrained.model
    writers = [vit.patch_embed["proj"], *(w for part in vit.blocks for w in (part.attn.proj, part.mlp["fc2"]))]
    for tensor in [vit.cls_token, vit.pos_embed, *(t for writer in writers for t in (writer.weight, writer.bias))]:
        tensor *= factor
    for k in range(1, 5):
        getattr(model.pretrained, f"act_postprocess{k}")[0].project[0].weight /= factor


def massive(model, pixels, factor, channels=(5, 77, 100, 300)):
    """Channels `factor` times the median one in all tokens, and the class token's again as large: as trained ViTs have them."""
    seeded.plant_outliers(model, list(channels), factor, 20.0, pixels)
    vit = model.pretrained.model
    vit.cls_token[..., list(channels)] += factor * streams(model, pixels)[2].abs().median()


# --------------------------------------------------------------------------------------------------------------- reports


def sizes(seen):
    most = max(x.abs().max().item() for x in seen)
    ratios = torch.cat([(x.mean(-1).abs() / x.std(-1)).flatten() for x in seen])
    return f"largest |x| {most:.4g}, |mean|/std {ratios.median():.2f}, at most {ratios.max():.2f}"


def report(name, model, pixels, tokens, depth, forms, ways, draws=1):
    """A row for each form: largest errors of the model and its neighbours, mean errors, and the mean logit error beside
    today's form, with the standard error of that ratio."""
    models = list(neighbours(model, draws))
    expected = [run(other, pixels, tokens, depth) for other in models]
    print(f"\n{name}: {sizes(streams(model, pixels))}")
    head = ("form", "text", "hooks", "channel", "largest", "typical", "mean", "ratio", "decided")
    print("| {:36} | {:>6} | {:>6} | {:>7} | {:>7} | {:>7} | {:>7} | {:>11} | {:>7} |".format(*head), flush=True)
    for way in ways:
        today = None
        for form in forms:
            rows = []
            for other, right in zip(models, expected):
                with mock.patch.object(torch.Tensor, "softmax", torch.Tensor.softmax):  # in_half replaces it
                    got = run(with_form(other, form, way == "whole"), pixels, tokens, depth, right[0])
                rows.append(numbers(got, right))
            each = {key: np.array([row[key] for row in rows]) for key in rows[0]}
            today = today or each
            if np.isnan(each["mean"]).any():
                print(f"| {way + ', ' + form.name:36} | not finite |")
                continue
            ratio = each["mean"].mean() / today["mean"].mean()
            spread = sum((e["mean"].std() / e["mean"].mean()) ** 2 / max(draws - 1, 1) for e in (each, today)) ** 0.5
            cells = [f"{each[key].mean():.3%}" for key in ("text", "hooks")]
            cells += [f"{each[key].max():.3%}" for key in ("channel", "max")]
            cells += [f"{each[key].mean():.3%}" for key in ("typical", "mean")]
            cells += ["-" if np.isnan(ratio) else f"{ratio:.2f} ± {ratio * spread:.2f}", f"{each['agree'].mean():.2%}"]
            widths = (6, 6, 7, 7, 7, 7, 11, 7)
            cells = [f"{cell:>{width}}" for cell, width in zip(cells, widths)]
            print(f"| {way + ', ' + form.name:36} | {' | '.join(cells)} |", flush=True)


def golden(names):
    for case in CASES:
        if case.config["image"]["kind"] != "vit" or (names and case.name not in names):
            continue
        original = published.load(HERE / case.name / "model.ckpt", Lseg(copy.deepcopy(case.config))).double()
        pixels = np.stack([seeded.photo(case.seed + 2 + i, *case.size) for i in range(PHOTOS)])
        assert (pixels[0] == np.array(Image.open(HERE / case.name / "photo_0.png"))).all()
        tokens = tokenizer(case.config["text"]["vocab"])(case.labels)
        both = ("blocks", "whole")
        report(case.name, original, pixels, tokens, case.extra_depth, FORMS, both, DRAWS)
        for ratio in (0.5, 1.0, 2.0, 4.0):
            model = copy.deepcopy(original)
            offset(model, pixels, ratio)
            report(f"{case.name}, mean {ratio:g} std", model, pixels, tokens, case.extra_depth, STRESSED, ("blocks",), 4)
        model = copy.deepcopy(original)
        louder(model, 2.0e5 / max(x.abs().max().item() for x in streams(model, pixels)))
        report(f"{case.name}, |x| up to 2e5", model, pixels, tokens, case.extra_depth, FORMS[:4], both, DRAWS)


def trained():
    """The demo model's text tower: the one transformer here that was trained."""
    with safe_open(DEMO / "demo.safetensors", "pt") as file:
        config = json.loads(file.metadata()["lseg-fast.config"])
        tensors = {key.removeprefix(CLIP): file.get_tensor(key).double() for key in file.keys() if key.startswith(CLIP)}
    tower = Clip(config["text"], config["embed_dim"]).double()
    tower.load_state_dict(tower.state_dict() | tensors)
    sys.path.append(str(DEMO.parent / "train"))  # for what its tokenizer, named as ours, imports
    spec = importlib.util.spec_from_file_location("demo_tokenizer", DEMO.parent / "train" / "tokenizer.py")
    spec.loader.exec_module(words := importlib.util.module_from_spec(spec))
    scenes = json.loads((DEMO / "scenes" / "scenes.json").read_text())
    labels = sorted({label for scene in scenes for label in scene["present"] + scene["absent"]} | {"other"})
    rows = [torch.tensor(words.encode(label)) for label in labels]
    tokens = torch.nn.utils.rnn.pad_sequence([*rows, torch.zeros(config["text"]["context"]).long()], batch_first=True)[:-1]
    expected, seen = tower(tokens), []
    for part in tower.transformer.resblocks:
        for norm in (part.ln_1, part.ln_2):
            keep = lambda _, inputs, __: seen.extend(x[: len(row)] for x, row in zip(inputs[0], rows))
            norm.register_forward_hook(keep)
    tower(tokens)
    print(f"\nthe demo model's text tower, {len(labels)} labels: {sizes(seen)}")
    for form in FORMS:
        error = (with_form(tower, form, False)(tokens) - expected).norm() / expected.norm()
        print(f"| {form.name:36} | {error:.3%} |")


def full(side):
    image = Image.open(PHOTO).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    pixels, tokens = np.array(image)[None], tokenizer(49408)(full_size_case.LABELS)
    original = seeded.fill(Lseg(full_size_case.CONFIG), full_size_case.SEED)
    stresses = [
        ("seeded", lambda _: None),
        ("four channels ×1000, mean 1 std", lambda model: (massive(model, pixels, 1000.0), offset(model, pixels, 1.0))),
        ("mean 3 std", lambda model: offset(model, pixels, 3.0)),
    ]
    for name, stress in stresses:
        model = copy.deepcopy(original)
        stress(model)
        path1 = model.decode(model.encode(model.normalise(pixels))[1])
        seeded.centre(model, path1[..., ::3, ::3], model.clip_pretrained(tokens), full_size_case.SEED + 1)
        name = f"vitl16 at {side}×{side}, {name}"
        report(name, model.double(), pixels, tokens, None, STRESSED, ("blocks", "whole"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", type=int, metavar="SIDE", help="vitl16 at this size")
    parser.add_argument("names", nargs="*", help="of golden networks; all if none")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        if args.full:
            full(args.full)
        else:
            golden(args.names)
            trained()


if __name__ == "__main__":
    sys.exit(main())
