"""Which attention of PyTorch's is taken, and the time of one launch."""

import contextlib
import json
import statistics
import time
from functools import partial

from .words import note, reason, whole


def choose_attention(case, device, cache):
    """Leaves on what is fastest at the network's shape of PyTorch's choice, flash and cuDNN. `warm` notes it for `serve`, whose
    compiled code must be the same. Returns its name."""
    import torch
    import torch.nn.functional as F

    if device != "cuda":
        return "default"
    file = cache / "attention.json" if cache else None
    config, (h, w) = case["config"]["image"], case["size"]
    tokens = 1 + (h // config["patch"]) * (w // config["patch"])
    if file and file.exists():
        chosen = json.loads(file.read_text())["chosen"]
    else:
        qkv = torch.randn(1, tokens, 3, config["heads"], config["dim"] // config["heads"], dtype=torch.half, device=device)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        times = {}
        for name in ("default", "flash", "cudnn"):
            try:
                with attention(name):
                    times[name] = launch_us(partial(F.scaled_dot_product_attention, q, k, v))
            except RuntimeError as error:
                note(f"attention by {name}: {reason(error)}")
        chosen = min(times, key=times.get) if times else "default"
        note("attention, us:", times, "chosen:", chosen)
        if file:
            with whole(file) as part:
                part.write_text(json.dumps({"chosen": chosen, "us": times}))
    limit_attention(chosen)
    return chosen


def limit_attention(name):
    """Limits scaled_dot_product_attention to one backend, "default" to none: a switch of the process, nothing to trace."""
    import torch

    for other in ("flash", "cudnn", "mem_efficient", "math"):
        getattr(torch.backends.cuda, f"enable_{other}_sdp")(name in ("default", other))


@contextlib.contextmanager
def attention(name):
    limit_attention(name)
    try:
        yield
    finally:
        limit_attention("default")


def launch_us(work, launches=20, warm=0.3):
    """Microseconds of one call of `work` in a CUDA graph of many, after a warm-up by time."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = [work() for _ in range(launches)]
    end = time.perf_counter() + warm
    while time.perf_counter() < end:
        graph.replay()
        torch.cuda.synchronize()
    times = []
    for _ in range(15):
        begin, finish = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        finish.record()
        torch.cuda.synchronize()
        times.append(1e3 * begin.elapsed_time(finish) / launches)
    del kept
    return statistics.median(times)
