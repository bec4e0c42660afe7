"""PyTorch on a GPU: in and out by DLPack, in its streams and its graphs."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_network import make_engine

import lseg_fast

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.skipif(not lseg_fast.build_info()["kernels"], reason="no CUDA kernels in this build"),
]


@pytest.fixture(scope="module")
def cuda():
    return make_engine(device="cuda")


def test_in_and_out_without_a_copy(cuda, image):
    expected = cuda.segment(image)
    photo = torch.from_numpy(image).cuda()
    assert np.array_equal(cuda.segment(photo), expected)
    tensor = cuda.segment(photo, on_device=True)
    mask = torch.from_dlpack(tensor)
    assert mask.is_cuda and mask.data_ptr() == tensor.__cuda_array_interface__["data"][0]
    assert np.array_equal(mask.cpu().numpy(), expected)
    embedding = torch.from_dlpack(cuda.embed(photo))
    assert embedding.is_cuda and embedding.dtype == torch.float16
    assert np.array_equal(embedding.cpu().numpy(), cuda.embed(image).numpy())


def test_on_streams_of_its_own(cuda, image):
    """The image is written late on one stream, the result read on another: no host waits."""
    photo, blank = torch.from_numpy(image).cuda(), torch.zeros(image.shape, dtype=torch.uint8, device="cuda")
    expected = cuda.segment(image)
    for _ in range(20):
        writer, reader = torch.cuda.Stream(), torch.cuda.Stream()
        with torch.cuda.stream(writer):
            late = blank.clone()
            torch.cuda._sleep(2_000_000)
            late.copy_(photo)
            tensor = cuda.segment(late, on_device=True)
        with torch.cuda.stream(reader):
            mask = torch.from_dlpack(tensor).clone()
        reader.synchronize()
        assert np.array_equal(mask.cpu().numpy(), expected)


def test_many_results_leave_nothing(cuda, image):
    photo = torch.from_numpy(image).cuda()
    for _ in range(50):
        torch.from_dlpack(cuda.embed(photo))
    torch.cuda.synchronize()
    before = torch.cuda.mem_get_info()[0]
    for _ in range(2000):
        torch.from_dlpack(cuda.embed(photo))
    torch.cuda.synchronize()
    assert before - torch.cuda.mem_get_info()[0] < 64 << 20


def test_a_graph_of_torchs_own_reads_a_result(cuda, image):
    """A result is an input of a captured graph like any other tensor."""
    held = torch.from_dlpack(cuda.embed(torch.from_numpy(image).cuda()))
    expected = (held.float() * 2).sum(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        doubled = (held.float() * 2).sum(0)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(doubled, expected)


def test_what_a_call_costs(cuda, image):
    photo = torch.from_numpy(image).cuda()
    cuda.segment(photo, on_device=True).release()
    times = []
    for _ in range(300):
        torch.cuda.synchronize()
        started = time.perf_counter()
        cuda.segment(photo, on_device=True).release()
        times.append(time.perf_counter() - started)
    times.sort()
    print(f"segment(CUDA tensor, on_device=True) returns after {1e6 * times[150]:.0f} µs p50, {1e6 * times[297]:.0f} µs p99")
