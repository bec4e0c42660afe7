"""What most tests need: a small network, and an image."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_network import make_engine

import lseg_fast


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
