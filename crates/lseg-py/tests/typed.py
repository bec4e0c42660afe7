"""A user's program as `mypy --strict` reads it; it is not run."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import lseg_fast
from lseg_fast import Engine, InputError, Result, Tensor
from lseg_fast.adapters import get_lseg_feat


def masks(photos: list[NDArray[np.uint8]]) -> list[NDArray[np.uint16]]:
    engine = Engine(Path("lseg.safetensors"), "cuda:0", threads=2, context="primary")
    engine.set_labels(["dog", "other"], templates=["a photo of a {}"])
    engine.size = 480
    engine.size = (480, 640)
    assert_type(engine.size, str)
    assert_type(engine.labels, list[str])
    try:
        return [engine.segment(photo, format="bgr8", threshold=0.5) for photo in photos]
    except InputError as error:
        raise SystemExit(str(error)) from error


def outputs(engine: Engine, photo: NDArray[np.uint8]) -> None:
    result = engine.segment(photo, outputs=("mask8", "confidence"))
    assert_type(result, Result)
    assert_type(engine.segment([photo], outputs=("mask", "best")), list[Result])
    room: NDArray[np.uint16] = np.empty((480, 640), np.uint16)
    assert_type(engine.segment(photo, out=room), NDArray[np.uint16])
    tensor = engine.embed(photo, at="photo", dtype="float16", layout="hwc", normalize=True)
    assert_type(tensor, Tensor)
    assert_type(tensor.shape, tuple[int, ...])
    assert_type(engine.embed_at(photo, [(1, 2), (3, 4)]), NDArray[np.float32])
    assert_type(engine.text(["dog"]), NDArray[np.float32])
    assert_type(get_lseg_feat(engine, photo, ["example"]), NDArray[np.float32])
    assert_type(engine.stats()["network_size"], tuple[int, int])
    assert_type(lseg_fast.build_info()["archs"], list[int])
    engine.segment(tensor)
    engine.segment(memoryview(b""))


def wrong(engine: Engine, photo: NDArray[np.uint8]) -> None:
    engine.segment("photo.jpg")  # type: ignore[call-overload]
    engine.segment(photo, outputs="masks")  # type: ignore[call-overload]
    engine.embed(photo, at="double")  # type: ignore[call-overload]
    Engine(context="shared")  # type: ignore[arg-type]
    engine.labels = ["dog"]  # type: ignore[misc]
