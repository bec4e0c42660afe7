"""What the tests share: a text tower (the demo's), small configurations, the program where it is built."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "weights/demo/demo.safetensors"
sys.path.insert(0, str(REPOSITORY / "training"))
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def program():
    """The lseg-fast program of LSEG_FAST; without it what compares with it is left out, and said so."""
    found = os.environ.get("LSEG_FAST")
    if not found:
        pytest.skip("LSEG_FAST names no lseg-fast program to compare with")
    return Path(found).resolve()


SMALL = {
    "resnet": 'encoder = "resnet"\nstem = 16\nblocks = [1, 1, 1, 1]\nplanes = [8, 16, 32, 32]\nfeatures = 32\n',
    "vit": 'encoder = "vit"\nwidth = 64\ndepth = 4\npatch = 16\ngrid = 6\nfeatures = 32\n',
}


def data_table(kind, tree, labels="labels.txt"):
    files = 'images = "photos/*.png"\nmask = [["photos", "masks"]]'
    return f'[[{kind}]]\nfolder = "{tree}"\n{files}\nlabels = "{tree}/{labels}"\n'


def configuration(
    folder, tree, encoder="resnet", recipe="finetune", train="", run="", start=f'text = "{DEMO}"', model="", top="",
    validation=True, crop=64, batch=4,
):  # fmt: skip
    """Writes CONFIG.toml for photos and masks of `tree` -> its path."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f'recipe = "{recipe}"\n{top}', f"[start]\n{start}"]
    if encoder:
        parts.append(f"[model]\n{SMALL[encoder]}{model}")
    parts.append(data_table("data", tree))
    if validation:
        parts.append(data_table("validation", tree))
    parts.append(
        f"[train]\ncrop = {crop}\nbase = 80\nscales = [0.8, 1.2]\nbatch = {batch}\njitter = 0.0\nwarm_up = 0\n{train}"
    )
    parts.append(f'[run]\nworkers = 0\nthreads = 1\ndevice = "cpu"\n{run}')
    path = folder / "c.toml"
    path.write_text("\n".join(parts))
    return path


@pytest.fixture
def tree(tmp_path):
    from scenes import painted

    return painted(tmp_path / "tree")


def command(*arguments):
    return [sys.executable, "-m", "lseg_train", *map(str, arguments)]


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(REPOSITORY / "training"), "OMP_NUM_THREADS": "1", **more}


def call(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(), **options)
