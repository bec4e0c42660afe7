"""CuPy on a GPU."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_network import make_engine

import lseg_fast

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")


def has_gpu():
    try:
        return cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


pytestmark = [
    pytest.mark.skipif(not has_gpu(), reason="no GPU"),
    pytest.mark.skipif(not lseg_fast.build_info()["kernels"], reason="no CUDA kernels in this build"),
]


def test_in_and_out_without_a_copy(image):
    engine = make_engine(device="cuda")
    expected = engine.segment(image)
    with cupy.cuda.Stream(non_blocking=True):
        photo = cupy.asarray(image)
        assert np.array_equal(engine.segment(photo), expected)
        tensor = engine.segment(photo, on_device=True)
        mask = cupy.from_dlpack(tensor)
        assert mask.data.ptr == tensor.__cuda_array_interface__["data"][0]
        assert np.array_equal(cupy.asnumpy(mask), expected)
        assert np.array_equal(cupy.asnumpy(cupy.asarray(tensor)), expected)
