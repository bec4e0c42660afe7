"""A small network on one thread of the CPU, for programs that are started without pytest too."""

from pathlib import Path

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
