"""Makes the golden cases: small seeded checkpoints in the published format, photos, and what LSeg computes from them.

    python tests/golden/generate.py            # rewrites tests/golden/<case>/
    python tests/golden/generate.py --check    # remakes them in a temporary folder and compares with what is committed

The expected values come from a float64 run of `lseg_reference.py` on the checkpoint as written (so after rounding to
its element types), stored as float32. README.md describes the files. `--check` of all cases ends with that of
`protocols.py`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import open_clip.transformer
import torch
import torchvision.models.resnet as tv
from PIL import Image
from safetensors.torch import load_file, save_file

import published
import seeded
from clip_tokens import tokenizer
from lseg_reference import HEAD_SIZE, Lseg

HERE = Path(__file__).parent
HALF = [0.5, 0.5, 0.5]
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
LEAST_SHARE = 0.03  # of the mask, for every label
DECISIVE = 5e-4  # of the scores' range, between the two best


@dataclass
class Case:
    name: str
    config: dict
    labels: list
    size: tuple  # of the photos: height, width
    seed: int  # of the weights; head1 has seed + 1, the photos seed + 2 and seed + 3
    hyper: str = "dict"  # the form of hyper_parameters: dict, attribute_dict, empty
    clip_dtype: torch.dtype = torch.float32
    image_dtype: torch.dtype = torch.float32
    expected: int = 1  # how many of the two photos have an expected file
    channel_step: dict = field(default_factory=dict)  # large taps keep every n-th channel only
    outliers: bool = False
    extra_depth: int | None = None  # a second block_depth whose scores are stored too, every fourth row


def config(image, reassemble, features, vocab, embed_dim, block=("none", 0, "relu"), mean=HALF, std=HALF):
    """In the form of the Rust side's `Config`."""
    return {
        "preset": "custom",
        "image": image,
        "reassemble": reassemble,
        "features": features,
        "text": {"vocab": vocab, "context": 77, "width": 64, "layers": 2, "heads": 1, "mlp": 64},
        "embed_dim": embed_dim,
        "head_block": dict(zip(("kind", "depth", "activation"), block)),
        "mean": mean,
        "std": std,
        "default_size": "long:480",
    }


def vit(patch, dim, depth, mlp, grid):
    hooks = [depth * k // 4 - 1 for k in range(1, 5)]
    heads = dim // HEAD_SIZE
    return dict(kind="vit", patch=patch, dim=dim, depth=depth, heads=heads, mlp=mlp, grid=grid, hooks=hooks)


CASES = [
    Case(
        "vit16",
        config(vit(16, 64, 4, 64, 6), [16, 16, 32, 32], 16, 600, 64),
        ["cat", "swimming pool", "traffic light", "wall", "other"],
        size=(64, 96),
        seed=1005,
        hyper="empty",
        channel_step={"path1": 4, "head1": 16},
    ),
    Case(
        "vit32",
        config(vit(32, 64, 8, 64, 4), [8, 16, 32, 32], 32, 560, 64, ("bottleneck", 2, "lrelu")),
        ["dog", "grass field", "sky", "stop sign", "person", "other"],
        size=(64, 96),
        seed=2005,
        hyper="dict",
        clip_dtype=torch.float16,
        image_dtype=torch.float16,
        expected=2,
        channel_step={"path1": 8, "head1": 16},
    ),
    Case(
        "resnet",
        config(
            dict(kind="resnet", stem=16, planes=[16, 16, 16, 32], blocks=[1, 2, 1, 1]),
            [64, 64, 64, 128],
            32,
            640,
            32,
            ("depthwise", 3, "tanh"),
            *IMAGENET,
        ),
        ["tree", "dining table", "potted plant", "floor", "other"],
        size=(64, 96),
        seed=3007,
        hyper="attribute_dict",
        clip_dtype=torch.float16,
        channel_step={"path1": 8, "head1": 8, "hook1": 8, "hook2": 4},
    ),
    Case(
        "vit16_relu",
        config(vit(16, 128, 4, 64, 6), [16, 16, 32, 32], 16, 576, 64, ("depthwise", 0, "relu")),
        ["car", "parking meter", "road", "fire hydrant", "other"],
        size=(64, 160),
        seed=4005,
        hyper="empty",
        clip_dtype=torch.float16,
        image_dtype=torch.float16,
        channel_step={"path1": 4, "head1": 16},
        outliers=True,
        extra_depth=2,
    ),
]


# --------------------------------------------------------------------------------------------------------------- making


def make(case, folder):
    """Writes the case's files and returns what was measured on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = np.stack([seeded.photo(case.seed + 2 + i, *case.size) for i in range(2)])
    for i, pixels in enumerate(photos):
        Image.fromarray(pixels).save(folder / f"photo_{i}.png", optimize=True)
    tokens = tokenizer(case.config["text"]["vocab"])(case.labels)
    write_checkpoint(case, folder / "model.ckpt", photos, tokens)

    model = published.load(folder / "model.ckpt", Lseg(case.config).double())
    taps = model(photos, tokens)
    measured = check_taps(case, model, photos, tokens, taps)
    for i in range(case.expected):
        save_file(expected(case, model, taps, i), folder / f"expected_{i}.safetensors")
    description = {
        "config": case.config,
        "hyper_parameters": case.hyper,
        "labels": case.labels,
        "tokens": [row[: row.argmax() + 1].tolist() for row in tokens],
        "size": list(case.size),
        "channel_step": case.channel_step,
        "extra_depth": case.extra_depth,
        "measured": measured,
    }
    (folder / "case.json").write_text(json.dumps(description, indent=1) + "\n")
    return measured


def write_checkpoint(case, path, photos, tokens):
    """Fills the network, rounds it to the checkpoint's element types, centres head1 on the photos, writes the file."""
    model = seeded.fill(Lseg(case.config), case.seed)
    if case.outliers:
        seeded.plant_outliers(model, [5, 77], 300, 80, photos)
    model.load_state_dict(rounded(case, model))
    model = model.double()
    with torch.no_grad():
        text = model.clip_pretrained(tokens)
        path1 = model.decode(model.encode(model.normalise(photos[: case.expected]))[1])
        seeded.centre(model, path1, text, case.seed + 1)
    state = published.state_dict(model.float(), case.clip_dtype, case.image_dtype)
    published.save(path, state, case.hyper, case.config["head_block"])


def rounded(case, model):
    state = published.state_dict(model, case.clip_dtype, case.image_dtype)
    return {k.removeprefix("net."): v for k, v in state.items()}


def expected(case, model, taps, i):
    """The tensors of expected_<i>.safetensors: photo i's taps without the batch dimension, float32."""
    out = {}
    for name, tap in taps.items():
        tap = tap if name == "text" else tap[i]
        step = case.channel_step.get(name, 1)
        out[name] = tap.to(torch.uint8) if name == "mask" else tap[::step].float()
        out[name] = out[name].detach().contiguous()
    if case.extra_depth is not None:
        with torch.no_grad():
            scores = model.score(taps["path1"][i : i + 1], taps["text"], case.extra_depth)[2]
        out[f"scores_depth{case.extra_depth}_rows4"] = scores[0, :, ::4].float().contiguous()
    return out


# --------------------------------------------------------------------------------------- checks of the reference itself


def check_taps(case, model, photos, tokens, taps):
    """Refuses a case that could not catch a mistake; returns what was measured, for case.json and the eye."""
    scores, mask = taps["scores"], taps["mask"]
    span = float(scores.max() - scores.min())
    shares = seeded.label_shares(scores[: case.expected])
    assert shares.min() >= LEAST_SHARE, f"{case.name}: a label wins only {shares.min():.3f} of a photo: {shares}"
    best = scores.topk(2, dim=1).values
    decisive = float((best[:, 0] - best[:, 1] > DECISIVE * span).double().mean())
    measured = {
        "scores_range": [float(scores.min()), float(scores.max())],
        "label_shares": [[round(s, 4) for s in row.tolist()] for row in shares],
        "decisive_pixels": decisive,
        "text_cosines": cosine_span(taps["text"]),
    }
    assert decisive > 0.95, f"{case.name}: only {decisive:.3f} of the pixels are decided: {measured}"
    if case.config["image"]["kind"] == "vit":
        spans = [block.attn.logit_span for block in model.pretrained.model.blocks]
        measured["attention_logits"] = [[round(float(f), 1) for f in (s[0].min(), s[1].max())] for s in spans]
        measured["largest_activation"] = max(float(taps[f"hook{k}"].abs().max()) for k in range(1, 5))
        size = taps["hook1"].square().mean((0, 1)).sqrt()
        measured["channel_rms_of_median"] = [round(float(v), 1) for v in (size / size.median()).sort().values[-3:]]
    if case.outliers:
        assert min(map(abs, measured["attention_logits"][1])) > 75, measured["attention_logits"]
        assert measured["channel_rms_of_median"][1] > 250, measured["channel_rms_of_median"]
    flipped = model(photos[:1, :, ::-1].copy(), tokens)
    for name, other in (("photo_1", (scores[1], mask[1])), ("flipped", (flipped["scores"][0], flipped["mask"][0]))):
        difference = float((other[0] - scores[0]).abs().max()) / span
        agreement = float((other[1] == mask[0]).double().mean())
        assert difference > 0.2 and agreement < 0.85, f"{case.name}: {name}: {difference:.3f}, {agreement:.3f}"
        measured[f"{name}_instead"] = {"scores_difference_of_range": difference, "mask_agreement": agreement}
    measured["text_vs_open_clip"] = against_open_clip(case, model, tokens, taps["text"])
    if case.config["image"]["kind"] == "resnet":
        measured["stages_vs_torchvision"] = against_torchvision(case, model, photos, taps)
    # What float32 arithmetic alone costs: it must be far below the tolerances that the suite applies.
    single = published_precision(case, model, photos, tokens)
    measured["float32_errors"] = {name: batch_error(name, single[name], taps[name]) for name in compared(taps)}
    return measured


def cosine_span(text):
    words = text / text.norm(dim=1, keepdim=True)
    cosines = (words @ words.T)[~torch.eye(len(words), dtype=torch.bool)]
    return [float(cosines.min()), float(cosines.max())]


def published_precision(case, model, photos, tokens):
    single = Lseg(case.config)
    single.load_state_dict(model.state_dict())
    return single(photos, tokens)


def against_open_clip(case, model, tokens, text):
    """Largest error, relative to the largest value, between our text tower and open_clip's on the same weights."""
    size = case.config["text"]
    other = open_clip.transformer.TextTransformer(
        context_length=size["context"],
        vocab_size=size["vocab"],
        width=size["width"],
        heads=size["heads"],
        layers=size["layers"],
        mlp_ratio=size["mlp"] / size["width"],
        output_dim=case.config["embed_dim"],
        act_layer=open_clip.transformer.QuickGELU,
    ).double()
    ours = model.clip_pretrained.state_dict()
    other.load_state_dict({k: v for k, v in ours.items() if not k.startswith(("visual.", "logit_scale"))})
    with torch.no_grad():
        error = relative_error("text", other.eval()(tokens), text)
    assert error < 1e-9, f"{case.name}: open_clip's text tower differs by {error}"
    return error


def against_torchvision(case, model, photos, taps):
    """The same for the four stages, against torchvision's ResNet with narrower layers."""
    image = case.config["image"]
    other = tv.ResNet(tv.Bottleneck, image["blocks"])
    other.inplanes = image["stem"]
    other.conv1 = torch.nn.Conv2d(3, image["stem"], 7, 2, 3, bias=False)
    other.bn1 = torch.nn.BatchNorm2d(image["stem"])
    for k, (planes, count) in enumerate(zip(image["planes"], image["blocks"]), 1):
        setattr(other, f"layer{k}", other._make_layer(tv.Bottleneck, planes, count, stride=1 if k == 1 else 2))
    del other.fc
    names = {"layer1.0.": "conv1.", "layer1.1.": "bn1.", "layer1.4.": "layer1."}
    state = {}
    for key, tensor in model.pretrained.state_dict().items():
        prefix = next((p for p in names if key.startswith(p)), None)
        state[names[prefix] + key.removeprefix(prefix) if prefix else key] = tensor
    other.load_state_dict(state)
    other = other.double().eval()
    with torch.no_grad():
        x = other.maxpool(other.relu(other.bn1(other.conv1(model.normalise(photos)))))
        error = 0.0
        for k in range(1, 5):
            x = getattr(other, f"layer{k}")(x)
            error = max(error, batch_error(f"hook{k}", x, taps[f"hook{k}"]))
    assert error < 1e-9, f"{case.name}: torchvision's stages differ by {error}"
    return error


# ------------------------------------------------------------------------------------------------------------ comparing


def compared(taps):
    return [name for name in taps if name != "mask"]


def relative_error(name, got, reference):
    """The suite's measure (README.md): scores and logits by their range, text by its largest value, taps channel by
    channel, so that an outlier channel excuses no other."""
    got, reference = got.detach().double(), reference.detach().double()
    assert got.isfinite().all() and reference.isfinite().all(), f"{name}: a value is not finite"
    error = (got - reference).abs()
    if name.startswith(("scores", "logits")):
        return float(error.max() / (reference.max() - reference.min()))
    if name == "text":
        return float(error.max() / reference.abs().max())
    channel = 1 if reference.dim() == 2 else 0  # tokens [T, D], maps [C, h, w]
    others = [d for d in range(reference.dim()) if d != channel]
    largest = reference.abs().amax(others)
    scale = largest.clamp_min(0.1 * float(largest.median()))
    return float((error.amax(others) / scale).max())


def batch_error(name, got, reference):
    """The worst of a batch; text features have no batch."""
    if name == "text":
        return relative_error(name, got, reference)
    return max(relative_error(name, g, r) for g, r in zip(got, reference, strict=True))


def tolerance(name):
    """The suite's bound on `relative_error` of the tensor of this name."""
    bounds = {"text": 1e-4, "scores": 5e-4, "logits": 5e-4, "hook": 1e-3, "path": 1e-3, "head": 1e-3}
    return next(bound for prefix, bound in bounds.items() if name.startswith(prefix))


def compare(case, fresh, committed):
    """One line a file; returns whether all agree under the suite's tolerances."""
    agree = True
    for i in range(case.expected):
        name = f"expected_{i}.safetensors"
        new, old = load_file(fresh / name), load_file(committed / name)
        assert new.keys() == old.keys(), f"{case.name}/{name}: other tensors"
        errors = {tap: relative_error(tap, new[tap], old[tap]) for tap in compared(new)}
        bad = [tap for tap, e in errors.items() if e > tolerance(tap)]
        same_mask = float((new["mask"] == old["mask"]).double().mean())
        agree &= not bad and same_mask > 0.999
        worst = max(errors, key=errors.get)
        print(f"{case.name}/{name}: worst {worst} {errors[worst]:.1e}, mask {same_mask:.4%}, out of bounds: {bad}")
    new, old = (json.loads((d / "case.json").read_text()) for d in (fresh, committed))
    del new["measured"], old["measured"]
    agree &= new == old
    identical = [f.name for f in sorted(fresh.iterdir()) if f.read_bytes() == (committed / f.name).read_bytes()]
    print(f"{case.name}: {len(identical)} of {len(list(fresh.iterdir()))} files are the same to the byte")
    return agree


def protocols_agree():
    """`protocols.py --check`, which is a process of its own because it imports this file."""
    sys.stdout.flush()
    return subprocess.run([sys.executable, HERE / "protocols.py", "--check"]).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, write nothing")
    parser.add_argument("--case", choices=[c.name for c in CASES], action="append", help="only this case (repeatable)")
    args = parser.parse_args()
    torch.set_num_threads(1)  # one order of summation, so equal bytes on one machine
    chosen = [c for c in CASES if not args.case or c.name in args.case]
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) if args.check else HERE
        agree = True
        for case in chosen:
            measured = make(case, root / case.name)
            print(case.name, json.dumps(measured, indent=1))
            if args.check:
                agree &= compare(case, root / case.name, HERE / case.name)
    if args.check and not args.case:
        agree &= protocols_agree()
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
