"""Memory and streams of a GPU that belong to somebody else. Each test is a process of its own: the virtual GPU reads its schedule once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lseg_fast

HERE = Path(__file__).parent


def has_gpu():
    program = "import cuda_driver, sys; sys.exit(cuda_driver.library() is None)"
    return subprocess.run([sys.executable, "-c", program], cwd=HERE).returncode == 0


pytestmark = [
    pytest.mark.skipif(not lseg_fast.build_info()["kernels"], reason="no CUDA kernels in this build"),
    pytest.mark.skipif(not has_gpu(), reason="no GPU, and no virtual one: `cargo xtask py-test` brings it"),
]


def run(case, seed="0"):
    environment = {**os.environ, "VGPU_SCHED": str(seed)}
    program = [sys.executable, str(HERE / "cuda_cases.py"), case]
    return subprocess.run(program, capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.parametrize("seed", range(8))
def test_images_and_results_in_order_on_any_stream(seed):
    done = run("order", seed)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", ["protocols", "places", "lifetime", "lent", "stream", "errors"])
def test_cuda(case):
    done = run(case)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", ["wrong_stream_in", "wrong_stream_out"])
def test_a_stream_that_was_not_told_is_not_waited_for(case):
    """The test of the order can fail: in some schedule the image, or the result, is not there yet."""
    assert any(run(case, seed).returncode == 3 for seed in range(8))
