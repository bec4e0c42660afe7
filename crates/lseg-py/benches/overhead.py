"""What Python's call costs over the engine's own, on one thread of the CPU: pairs of calls of a small network at 32×32, one
`engine.segment(image, out=mask)` and one `Engine::segment_into`, which is timed from within (examples/segment_into.rs), in turns. On a
machine with other work the 99th percentiles of both are that work's; "outside the pass itself" is the time of a call less the stages that the
engine timed in it, which is more than what Python adds: bringing the frame in and the mask out is in it too.

    cargo build --release --package lseg-py --example segment_into
    cargo xtask wheel && python3 -m venv v && v/bin/pip install target/wheels/release/*.whl
    v/bin/python crates/lseg-py/benches/overhead.py target/release/examples/libsegment_into.so [PAIRS]
"""

import ctypes
import sys
import time
from pathlib import Path

import numpy as np

import lseg_fast

NETWORK = Path(__file__).resolve().parents[3] / "tests/golden/vit16/model.ckpt"


def main(library: str, pairs: int = 5000) -> None:
    rust = ctypes.CDLL(library)
    rust.open.restype = ctypes.c_void_p
    rust.segment_into.restype = ctypes.c_uint64
    rust.segment_into.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    caller = rust.open(str(NETWORK).encode())
    assert caller, NETWORK
    engine = lseg_fast.Engine(NETWORK, "cpu", threads=1)
    engine.size = "32x32"
    engine.set_labels(["dog", "grass", "other"])
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    mask = np.empty((32, 32), np.uint16)
    pixels, clock = image.ctypes.data, time.perf_counter_ns
    times = np.empty((pairs + 200, 3))
    for pair in times:
        begin = clock()
        engine.segment(image, out=mask)
        pair[0] = clock() - begin
        pair[1] = rust.segment_into(caller, pixels, 32, 32)
        pair[2] = pair[0] - 1e9 * sum(engine.stats()["stage_seconds"].values())
    python, inner, outside = times[200:].T / 1000
    nothing = np.diff([clock() for _ in range(1000)]) / 1000
    print(f"| µs, {pairs} pairs | p50 | p99 |\n|---|---:|---:|")
    for name, values in [("segment(image, out=mask)", python), ("segment_into", inner)]:
        print(f"| {name} | {np.percentile(values, 50):.1f} | {np.percentile(values, 99):.1f} |")
    differences = [np.percentile(python, p) - np.percentile(inner, p) for p in (50, 99)]
    print(f"| difference of the percentiles | {differences[0]:.1f} | {differences[1]:.1f} |")
    pairwise = python - inner
    print(f"| median of the pairs' differences | {np.percentile(pairwise, 50):.1f} | – |")
    print(f"| outside the pass itself, in the same call | {np.percentile(outside, 50):.1f} | {np.percentile(outside, 99):.1f} |")
    print(f"| Python's clock, asked twice | {np.percentile(nothing, 50):.2f} | {np.percentile(nothing, 99):.2f} |")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
