"""Every published preset at its full width, seeded: the program on CUDA against itself on the CPU, a small photo.

    python tests/golden/presets.py --bin target/release/lseg-fast

About two minutes on the virtual GPU (LD_LIBRARY_PATH=target/vgpu after `cargo xtask vgpu`) and 1.7 GB of a temporary folder.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import published
import seeded
from full_size import CONFIG, LABELS, LIMITS, PHOTO, compare
from lseg_reference import Lseg

SEED = 77
VIT_B_32 = {
    "kind": "vit", "patch": 32, "dim": 768, "depth": 12, "heads": 12, "mlp": 3072, "grid": 12, "hooks": [2, 5, 8, 11],
}  # fmt: skip
RESNET_101 = {"kind": "resnet", "stem": 64, "blocks": [3, 4, 23, 3], "planes": [64, 128, 256, 512]}


def wider(width):
    """CLIP's text tower of another width."""
    return {"text": CONFIG["text"] | {"width": width, "heads": width // 64, "mlp": 4 * width}, "embed_dim": width}


PRESETS = {
    "vitl16": CONFIG,
    "vitb32": CONFIG | {"image": VIT_B_32, "reassemble": [96, 192, 384, 768]},
    "rn50x4_vitl16": CONFIG | wider(640),
    "rn50x16_vitl16": CONFIG | wider(768),
    "rn101": CONFIG | {"image": RESNET_101, "reassemble": [256, 512, 1024, 2048]},
}


def make(path, config):
    model = seeded.fill(Lseg(config), SEED)
    for name, module in model.named_modules():
        # 33 blocks of seeded weights would grow past float16; trained ones do not.
        if name.endswith("bn3"):
            module.weight.data *= 0.2
    published.save(path, published.state_dict(model, torch.float16, torch.float32), "attribute_dict", config["head_block"])


def scores(program, model, device, folder):
    call = [program, "run", "--model", model, "--labels", ",".join(LABELS), "--save", "scores", "--size", "96x128"]
    subprocess.run([*call, "--device", device, "--out", folder / device, "-q", PHOTO], check=True, stdout=subprocess.DEVNULL)
    return np.load(folder / device / f"{PHOTO.stem}.scores.npy")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True, help="the lseg-fast program")
    program = parser.parse_args().bin
    most_error, decisive, agreement = LIMITS["cuda"]
    passed = True
    print("| preset | largest error / range | masks agree | where decided | such pixels |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, config in PRESETS.items():
            model = Path(folder) / "model.ckpt"
            make(model, config)
            expected, got = (scores(program, model, device, Path(folder)) for device in ("cpu", "cuda"))
            error, overall, where_decided, decided = compare(expected, got, decisive)
            print(f"| {name} | {error:.2%} | {overall:.2%} | {where_decided:.2%} | {decided:.2%} |", flush=True)
            passed &= error <= most_error and where_decided >= agreement
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
