"""What a network is made of, in numbers: a dict in the form of a file's `lseg-fast.config` (src/model/config.rs)."""

import math

MEAN_STD = {"vit": ([0.5] * 3, [0.5] * 3), "resnet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])}
PATCHES = (16, 32)
"""Those that LSeg defines and the program runs."""

HEAD_BLOCKS = ("none", "bottleneck", "depthwise")
ACTIVATIONS = ("relu", "lrelu", "tanh")
HEAD_SIZE = 64

# Width, layers, heads and C of CLIP's text towers.
CLIP_TEXT = {
    "ViT-B/32": (512, 12, 8, 512),
    "ViT-B/16": (512, 12, 8, 512),
    "RN50x4": (640, 12, 10, 640),
    "RN50x16": (768, 12, 12, 768),
}

PRESETS = {
    "vitl16": {
        "kind": "vit",
        "width": 1024,
        "depth": 24,
        "patch": 16,
        "grid": 24,
        "reassemble": [256, 512, 1024, 1024],
    },
    "vitb32": {"kind": "vit", "width": 768, "depth": 12, "patch": 32, "grid": 12, "reassemble": [96, 192, 384, 768]},
    "rn101": {"kind": "resnet", "stem": 64, "blocks": [3, 4, 23, 3], "planes": [64, 128, 256, 512]},
}


class Unfit(ValueError):
    """Numbers that make no network; says what is expected."""


def vit(width, depth, patch, grid, mlp=None):
    """The `image` of a ViT: heads of 64 channels, four hooks at equal distances (DPT)."""
    if width % HEAD_SIZE or width < HEAD_SIZE:
        raise Unfit(f"width is {width}, a multiple of {HEAD_SIZE} (the size of a head) is expected")
    if depth % 4 or depth < 4:
        raise Unfit(f"depth is {depth}, a multiple of 4 is expected (the decoder takes four blocks' outputs)")
    if patch not in PATCHES:
        raise Unfit(f"patch is {patch}, {' or '.join(map(str, PATCHES))} is expected")
    hooks = [depth * k // 4 - 1 for k in (1, 2, 3, 4)]
    heads, mlp = width // HEAD_SIZE, mlp or 4 * width
    return {
        "kind": "vit",
        "patch": patch,
        "dim": width,
        "depth": depth,
        "heads": heads,
        "mlp": mlp,
        "grid": grid,
        "hooks": hooks,
    }


def resnet(stem, blocks, planes):
    """The `image` of a ResNet with bottleneck blocks."""
    if len(blocks) != 4 or len(planes) != 4:
        raise Unfit(f"blocks are {blocks} and planes {planes}, four numbers each are expected (one a stage)")
    return {"kind": "resnet", "stem": stem, "blocks": list(blocks), "planes": list(planes)}


def head_block(kind="none", depth=1, activation="lrelu", tied=True):
    if kind not in HEAD_BLOCKS:
        raise Unfit(f"the head block is {kind!r}, one of {', '.join(HEAD_BLOCKS)} is expected")
    if activation not in ACTIVATIONS:
        raise Unfit(f"the head block's activation is {activation!r}, one of {', '.join(ACTIVATIONS)} is expected")
    if kind == "none" or depth == 0:
        return {"kind": "none", "depth": 0, "activation": activation}
    if not 1 <= depth <= 64:
        raise Unfit(f"the head block's depth is {depth}, 0 to 64 is expected")
    block = {"kind": kind, "depth": depth, "activation": activation}
    return block if tied else {**block, "tied": False}


def network(
    image, features, text, embed_dim, reassemble=None, block=None, mean=None, std=None, size=480, preset="custom"
):
    """A whole configuration. `size` is the longer side that the program takes photos at when none is asked for."""
    if image["kind"] == "resnet":
        reassemble = [4 * planes for planes in image["planes"]]
    elif reassemble is None:
        reassemble = [features, features, features, features]
    sizes = {k: v for k, v in image.items() if k not in ("kind", "hooks")} | {
        "reassemble": reassemble,
        "features": features,
    }
    for name, value in sizes.items():
        if min(value if isinstance(value, list) else [value]) < 1:
            raise Unfit(f"{name} is {value}, 1 or more is expected")
    if any(len(three) != 3 for three in (mean, std) if three) or (std and min(std) <= 0):
        raise Unfit(f"mean is {mean} and std {std}, three numbers each are expected, those of std above 0")
    usual = MEAN_STD[image["kind"]]
    return {
        "preset": preset,
        "image": image,
        "reassemble": list(reassemble),
        "features": features,
        "text": text,
        "embed_dim": embed_dim,
        "head_block": block or head_block(),
        "mean": list(mean or usual[0]),
        "std": list(std or usual[1]),
        "default_size": f"long:{size}",
    }


def step(config):
    """Both sides of an input are multiples of this: the decoder halves as often as the encoder, at patch 16 once
    more."""
    return math.lcm(32, config["image"].get("patch", 32))
