"""What most tests need: a small network on one thread of the CPU, and an image."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import lseg_fast

ROOT = Path(__file__).resolve().parents[3]
# 2 layers, random weights: a frame of 32×32 takes a millisecond.
NETWORK = ROOT / "tests/golden/vit16/model.ckpt"
LABELS = ["dog", "grass", "other"]


def make_engine(**options: object) -> lseg_fast.Engine:
    engine = lseg_fast.Engine(NETWORK, **{"device": "cpu", "threads": 1, **options})  # type: ignore[arg-type]
    engine.size = "32x32"
    engine.set_labels(LABELS)
    return engine


@pytest.fixture(scope="session")
def engine() -> lseg_fast.Engine:
    """Tests leave its size and labels as they are."""
    return make_engine()


@pytest.fixture(scope="session")
def image() -> NDArray[np.uint8]:
    """Smooth, so that labels differ from region to region."""
    rows, columns = np.mgrid[0:46, 0:60]
    channels = [4 * columns, 5 * rows, 255 - 2 * (rows + columns)]
    return np.stack(channels, axis=2).astype(np.uint8)


def resident_kib() -> int:
    """This process's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
