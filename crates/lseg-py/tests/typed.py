"""A user's program as `mypy --strict` reads it; it is not run."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import lseg_fast
from lseg_fast import Answer, Engine, InputError, Result, Stream, Tensor
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


def streams(engine: Engine, photo: NDArray[np.uint8]) -> None:
    with engine.stream(policy="every", queue=2, outputs=("mask", "confidence"), cpus=[0], stale_after=0.5) as stream:
        assert_type(stream, Stream)
        assert_type(stream.push(photo, 17, format="bgr8"), int | None)
        assert_type(stream.recv(0.5), Answer | None)
        assert_type(stream.poll(), Answer | None)
        assert_type(stream.set_labels(["dog"]), int)
        stream.close()
        for answer in stream:
            assert_type(answer, Answer)
            assert_type((answer.sequence, answer.age, answer.labels), tuple[int, float, list[str]])
            assert_type(answer.error, Exception | None)
        assert_type(stream.stats()["age_p99"], float)


def wrong(engine: Engine, photo: NDArray[np.uint8]) -> None:
    engine.segment("photo.jpg")  # type: ignore[call-overload]
    engine.segment(photo, outputs="masks")  # type: ignore[call-overload]
    engine.embed(photo, at="double")  # type: ignore[call-overload]
    engine.stream(policy="all")  # type: ignore[arg-type]
    Engine(context="shared")  # type: ignore[arg-type]
    engine.labels = ["dog"]  # type: ignore[misc]
