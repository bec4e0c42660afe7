"""What is told, and files that are whole."""

import contextlib
import sys
import time


def note(*words):
    print(*words, file=sys.stderr, flush=True)


@contextlib.contextmanager
def timed(step):
    start = time.perf_counter()
    yield
    note(f"{step}: {time.perf_counter() - start:.2f} s")


def reason(error):
    """An exception in one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:400]


def quantiles(milliseconds):
    import numpy as np

    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {name: round(float(value), 5) for name, value in (("p50", p50), ("p99", p99), ("max", max(milliseconds)))}


@contextlib.contextmanager
def whole(path):
    """A name to write under, which becomes `path` at the end: an interrupted run leaves no half file."""
    part = path.with_name(path.name + ".part")
    yield part
    part.rename(path)
