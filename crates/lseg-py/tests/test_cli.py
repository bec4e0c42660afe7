"""The same photo and words by the program: the same bytes."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from small_network import ROOT
from PIL import Image

import lseg_fast

PROGRAM = os.environ.get("LSEG_FAST_PROGRAM", "")
WORDS = ["dog", "tree", "car", "sky", "other"]


@pytest.mark.skipif(not Path(PROGRAM).is_file(), reason="LSEG_FAST_PROGRAM names no lseg-fast to compare with")
def test_results_are_those_of_the_program(tmp_path):
    photo = ROOT / "weights/demo/park.png"
    save = "mask,scores,best,probabilities"
    arguments = [PROGRAM, "run", photo, "--labels", ",".join(WORDS), "--save", save, "--out", tmp_path]
    subprocess.run([*arguments, "--device", "cpu", "--quiet"], check=True)
    arguments = [PROGRAM, "embed", photo, "--out", tmp_path, "--device", "cpu", "--quiet"]
    subprocess.run([*arguments, "--dtype", "f32"], check=True)

    engine = lseg_fast.Engine(device="cpu")
    engine.set_labels(WORDS)
    pixels = np.asarray(Image.open(photo).convert("RGB"))
    result = engine.segment(pixels, outputs=("mask", "scores", "best", "probabilities"))
    for name in ("scores", "best", "probabilities"):
        written = np.load(tmp_path / f"park.{name}.npy")
        assert written.dtype == np.float32 and np.array_equal(written, getattr(result, name)), name
    assert np.array_equal(np.asarray(Image.open(tmp_path / "park.mask.png")), result.mask)
    assert np.array_equal(engine.segment(Image.open(photo).convert("RGB")), result.mask), "Pillow's images come in as they are"
    [embedding] = tmp_path.glob("park.*embed*.npy")
    assert np.array_equal(np.load(embedding), engine.embed(pixels, dtype="float32").numpy())

