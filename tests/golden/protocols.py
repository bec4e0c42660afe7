"""Makes the golden cases of whole photos: what `protocol_reference.py` computes with the networks of `generate.py`.

    python tests/golden/protocols.py            # rewrites tests/golden/protocols/
    python tests/golden/protocols.py --check    # remakes it in a temporary folder and compares with what is committed

README.md describes the files.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

import protocol_reference
import protocol_resizes
import protocol_templates
import published
from clip_tokens import tokenizer
from generate import HERE, relative_error, tolerance
from lseg_reference import Lseg
from protocol_reference import SCORES

FOLDER = HERE / "protocols"
MOST_PIXELS = 600
MOST_VALUES = 8000  # of one case, so that 150 labels stay small
MOST_BYTES = 2_500_000  # of the whole folder
NETWORKS = ("vit32", "resnet", "vit16")  # a head block; another, with ImageNet's mean and std; no head block
SMALL = {"base": 130, "crop": 128}  # a resized photo is a little larger than the crop, as 520 is than 480


@dataclass
class Case:
    name: str
    network: str  # a folder of generate.py
    preset: str
    photo: tuple  # height, width
    overrides: dict = field(default_factory=dict)
    labels: list | None = None  # the network's own where none are named


def cases():
    """Every preset with small numbers on three kinds of network, then a few at the published numbers."""
    for network in NETWORKS:
        yield from small_scores(network)
        yield from small_features(network)
    yield from odd_photos()
    yield from odd_numbers()
    yield from published_numbers()


def small_scores(network):
    yield Case(f"eval_{network}", network, "lseg-eval", (120, 160), SMALL)
    yield Case(f"citys_{network}", network, "lseg-eval-citys", (60, 120), {"base": 96, "crop": 64})
    yield Case(f"app_{network}", network, "app", (75, 100), SMALL | {"before": [90, 120], "scales": [0.5, 1, 1.75]})
    yield Case(f"zero_shot_{network}", network, "zero-shot", (75, 100), {"size": [96, 96]}, ["others", "cat"])


def small_features(network):
    yield Case(f"vlmaps_{network}", network, "vlmaps", (120, 160), SMALL)
    yield Case(f"openscene_{network}", network, "openscene", (45, 60))
    yield Case(f"gs_{network}", network, "feature3dgs", (75, 100), SMALL | {"before": [90, 120]})
    yield Case(f"gs_resized_{network}", network, "feature3dgs", (120, 160), SMALL | {"before": [90, 120]})
    yield Case(f"minimal_{network}", network, "lseg-minimal", (45, 61), {"size": [96, 128]})
    yield Case(f"lsm_{network}", network, "lsm", (75, 100), {"size": [64, 96]})


def odd_photos():
    """Upright, odd, long, tiny and one pixel wide; one pixel over a crop."""
    yield Case("eval_upright", "vit32", "lseg-eval", (160, 120), SMALL)
    yield Case("eval_odd", "resnet", "lseg-eval", (119, 121), SMALL)
    yield Case("eval_long", "vit32", "lseg-eval", (65, 250), SMALL | {"scales": [0.5, 1, 1.75]})
    yield Case("eval_tall", "resnet", "lseg-eval", (250, 65), SMALL | {"scales": [0.5, 1, 1.75]})
    yield Case("eval_tiny", "resnet", "lseg-eval", (31, 33), SMALL)
    yield Case("eval_row", "resnet", "lseg-eval", (1, 1000), SMALL | {"scales": [1]})
    yield Case("eval_column", "vit32", "lseg-eval", (1000, 1), SMALL | {"scales": [1]})
    yield Case("eval_pixel", "resnet", "lseg-eval", (1, 1), SMALL | {"scales": [0.5]})
    yield Case("eval_pixel_over", "vit32", "lseg-eval", (129, 129), {"base": 129, "crop": 128, "scales": [1]})
    yield Case("eval_pixel_over_wide", "resnet", "lseg-eval", (90, 129), {"base": 129, "crop": 128, "scales": [1]})
    yield Case("eval_just_crop", "resnet", "lseg-eval", (90, 128), {"base": 128, "crop": 128, "scales": [1]})
    yield Case("vlmaps_upright", "resnet", "vlmaps", (160, 120), SMALL)
    yield Case("vlmaps_odd", "resnet", "vlmaps", (119, 121), SMALL)
    yield Case("openscene_upright", "resnet", "openscene", (61, 45))
    yield Case("openscene_whole_crop", "resnet", "openscene", (48, 64))
    yield Case("gs_upright", "resnet", "feature3dgs", (160, 120), SMALL | {"before": [90, 120]})
    yield Case("gs_long", "resnet", "feature3dgs", (65, 250), SMALL | {"before": [90, 120]})
    yield Case("zero_shot_up", "resnet", "zero-shot", (31, 33), {"size": [96, 128]}, ["others", "tree"])
    yield Case("zero_shot_column", "resnet", "zero-shot", (300, 1), {"size": [64, 64]}, ["others", "tree"])
    yield Case("minimal_down", "resnet", "lseg-minimal", (180, 240), {"size": [96, 128]})
    yield Case("minimal_half", "resnet", "lseg-minimal", (128, 192), {"size": [64, 96]})
    yield Case("lsm_down", "resnet", "lsm", (181, 119), {"size": [64, 64]})


def odd_numbers():
    """Other flips, strides and label counts."""
    words = [f"thing {i}" for i in range(150)]
    few = SMALL | {"scales": [0.5, 1]}
    yield Case("eval_no_flip", "vit32", "lseg-eval", (120, 160), few | {"flip": "none"})
    yield Case("eval_mean_flip", "resnet", "lseg-eval", (120, 160), few | {"flip": "mean"})
    yield Case("eval_stride", "resnet", "lseg-eval", (120, 160), SMALL | {"scales": [1.25], "stride": 48})
    yield Case("eval_one_label", "vit32", "lseg-eval", (60, 80), few, ["wall"])
    yield Case("eval_150_labels", "resnet", "lseg-eval", (60, 80), few, words)
    yield Case("eval_150_labels_vit16", "vit16", "lseg-eval", (60, 80), few, words)
    yield Case("vlmaps_flip", "resnet", "vlmaps", (60, 80), SMALL | {"flip": "mean"})
    yield Case("gs_sum_flip", "resnet", "feature3dgs", (60, 80), few | {"flip": "sum"})


def published_numbers():
    """No overrides; on the networks that take least time, with few labels."""
    yield Case("published_eval_tiny", "vit32", "lseg-eval", (31, 33), labels=["wall", "floor", "other"])
    yield Case("published_eval", "vit32", "lseg-eval", (480, 640), labels=["wall", "floor", "other"])
    yield Case("published_app", "vit32", "app", (30, 40), labels=["wall", "floor", "other"])
    yield Case("published_zero_shot", "resnet", "zero-shot", (90, 120), labels=["others", "tree"])
    yield Case("published_vlmaps", "vit32", "vlmaps", (200, 260))
    yield Case("published_openscene", "vit32", "openscene", (31, 33))
    yield Case("published_gs", "vit32", "feature3dgs", (100, 500))
    yield Case("published_minimal", "vit32", "lseg-minimal", (90, 120))
    yield Case("published_lsm", "vit32", "lsm", (90, 120))


# --------------------------------------------------------------------------------------------------------------- making


def picture(height, width):
    """uint8 RGB [height, width, 3], seeded by its size: waves in each channel, a few discs of one colour, no noise."""
    rng = np.random.Generator(np.random.PCG64(height * 10_000 + width))
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    image = np.empty((height, width, 3))
    for channel in range(3):
        down, right, phase = rng.uniform(2, 9), rng.uniform(2, 9), rng.uniform(0, 6)
        image[..., channel] = 127 + 120 * np.cos(down * y + right * x + phase)
    for _ in range(6):
        cy, cx = rng.uniform(0, y.max() + 0.01), rng.uniform(0, x.max() + 0.01)
        image[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(0.05, 0.15) ** 2] = rng.integers(0, 256, 3)
    return np.rint(image).astype(np.uint8)


def photo_name(case):
    return "photo_{}x{}.png".format(*case.photo)


def load(network):
    """→ (the network in float64, its description in case.json)."""
    description = json.loads((HERE / network / "case.json").read_text())
    model = Lseg(description["config"]).double()
    return published.load(HERE / network / "model.ckpt", model), description


def compute(case):
    """→ (the case's map [d, h, w] in float64, the labels used, passes)."""
    model, description = load(case.network)
    labels = case.labels or description["labels"]
    with torch.no_grad():
        text = model.clip_pretrained(tokenizer(description["config"]["text"]["vocab"])(labels))
    out, passes = protocol_reference.run(case.preset, model, text, picture(*case.photo), case.overrides)
    return out, labels, passes


def chosen_pixels(channels, height, width):
    """int32 [n, 2] of (y, x): the corners, points of every edge, points anywhere; all where there are few."""
    most = min(MOST_PIXELS, MOST_VALUES // channels)
    if height * width <= most:
        return np.argwhere(np.ones((height, width))).astype(np.int32)
    rng = np.random.Generator(np.random.PCG64(height * 10_000 + width))
    corners = [(y, x) for y in (0, height - 1) for x in (0, width - 1)]
    edge = most // 20
    down, right = rng.integers(0, height, (2, edge)), rng.integers(0, width, (2, edge))
    edges = [(y, x) for i, x in enumerate((0, width - 1)) for y in down[i]]
    edges += [(y, x) for i, y in enumerate((0, height - 1)) for x in right[i]]
    anywhere = zip(rng.integers(0, height, most), rng.integers(0, width, most))
    pixels = dict.fromkeys((int(y), int(x)) for y, x in [*corners, *edges, *anywhere])
    return np.array(list(pixels)[:most], np.int32)


def expected(case, out):
    """The tensors of one case: chosen pixels, their values, and the argmax of scores."""
    pixels = chosen_pixels(*out.shape)
    values = out.double().numpy()[:, pixels[:, 0], pixels[:, 1]].T
    tensors = {"pixels": pixels, "values": np.ascontiguousarray(values, np.float32)}
    if case.preset in SCORES:
        tensors["mask"] = values.argmax(1).astype(np.int32)
    return {f"{case.name}/{key}": tensor for key, tensor in tensors.items()}


def make(folder):
    """Writes the whole folder."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptions, tensors = [], {}
    for case in cases():
        out, labels, passes = compute(case)
        Image.fromarray(picture(*case.photo)).save(folder / photo_name(case), optimize=True)
        tensors |= expected(case, out)
        descriptions.append(
            {
                "name": case.name,
                "network": case.network,
                "model": f"{case.network}/model.ckpt",
                "preset": case.preset,
                "overrides": case.overrides,
                "photo": photo_name(case),
                "labels": labels,
                "shape": list(out.shape),
                "passes": passes,
            }
        )
        print(f"{case.name:24} {case.preset:16} {tuple(out.shape)} after {passes} passes", flush=True)
    save_file(tensors, folder / "expected.safetensors")
    protocol_resizes.make(folder)
    protocol_templates.make(folder, NETWORKS, load)
    (folder / "cases.json").write_text("[\n" + ",\n".join(json.dumps(d) for d in descriptions) + "\n]\n")


# ------------------------------------------------------------------------------------------------------------ comparing


def error(case, got, reference):
    """The worst of values [n, d], in parts of what the suite allows: scores by their range, features by channel."""
    name = "scores" if case.preset in SCORES else "head1"
    got, reference = torch.as_tensor(got), torch.as_tensor(reference)
    if name == "scores" and reference.max() == reference.min():  # one pixel, one label
        return float((got - reference).abs().max() / reference.abs().max()) / tolerance(name)
    return relative_error(name, got, reference) / tolerance(name)


def compare(fresh, committed):
    """One line a case; returns whether all agree."""
    agree = (fresh / "cases.json").read_bytes() == (committed / "cases.json").read_bytes()
    agree &= protocol_resizes.same(fresh, committed) and protocol_templates.same(fresh, committed)
    new, old = load_file(fresh / "expected.safetensors"), load_file(committed / "expected.safetensors")
    agree &= new.keys() == old.keys()
    for case in cases():
        name = f"{case.name}/values"
        worst = error(case, new[name], old[name])
        same_pixels = np.array_equal(new[f"{case.name}/pixels"], old[f"{case.name}/pixels"])
        agree &= worst < 1 and same_pixels
        print(f"{case.name:24} at {worst:.1e} times its tolerance, same pixels: {same_pixels}")
    for photo in sorted(fresh.glob("*.png")):
        agree &= np.array_equal(*(np.array(Image.open(folder / photo.name)) for folder in (fresh, committed)))
    return agree


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)  # one order of summation, so equal bytes on one machine
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if args.check else FOLDER
        make(folder)
        agree = compare(folder, FOLDER) if args.check else True
    size = sum(f.stat().st_size for f in FOLDER.iterdir())
    assert size < MOST_BYTES, f"{FOLDER} has {size} bytes, more than {MOST_BYTES}"
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
