import os
from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar, final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import CapsuleType, Self

__all__ = ["Answer", "Engine", "Result", "Stream", "Tensor", "build_info"]

_Output: TypeAlias = Literal["mask", "mask8", "confidence", "best", "scores", "probabilities", "overlay"]
_Array: TypeAlias = NDArray[Any]

class _DLPack(Protocol):
    def __dlpack_device__(self) -> tuple[Any, Any]: ...

class _CudaArray(Protocol):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

class _HostArray(Protocol):
    @property
    def __array_interface__(self) -> dict[str, Any]: ...

_Image: TypeAlias = _DLPack | _CudaArray | _HostArray | _Array | bytes | bytearray | memoryview

class _BuildInfo(TypedDict):
    version: str
    commit: str
    kernels: bool
    archs: list[int]

class _Stats(TypedDict):
    frames: int
    network_size: tuple[int, int]
    frame_seconds: float | None
    stage_seconds: dict[str, float]
    host_memory_held: int
    device_memory_held: int | None
    note: str | None

class _StreamStats(TypedDict):
    pushed: int
    done: int
    replaced: int
    stale: int
    failed: int
    in_flight: int
    unread: int
    restarts: int
    age_p50: float
    age_p99: float
    age_max: float
    computed_p50: float
    computed_p99: float
    jitter_p50: float
    jitter_p99: float

@final
class Tensor:
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    def numpy(self) -> _Array: ...
    def release(self) -> None: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> CapsuleType: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    @property
    def __array_interface__(self) -> dict[str, Any]: ...
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> _Array: ...
    def __len__(self) -> int: ...

@final
class Result:
    """Of `segment` with several outputs: arrays of NumPy, or tensors on the device; what was not asked for is None."""

    @property
    def mask(self) -> Any: ...
    @property
    def mask8(self) -> Any: ...
    @property
    def confidence(self) -> Any: ...
    @property
    def best(self) -> Any: ...
    @property
    def scores(self) -> Any: ...
    @property
    def probabilities(self) -> Any: ...
    @property
    def overlay(self) -> Any: ...
    @property
    def labels(self) -> list[str]: ...

@final
class Answer:
    """Of a stream's frame: arrays of NumPy, or tensors on the device; what was not asked for is None. Where the frame has failed they
    raise `error`."""

    @property
    def sequence(self) -> int: ...
    @property
    def stamp_ns(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def labels(self) -> list[str]: ...
    @property
    def waited(self) -> float: ...
    @property
    def computed(self) -> float: ...
    @property
    def age(self) -> float: ...
    @property
    def error(self) -> Exception | None: ...
    @property
    def mask(self) -> Any: ...
    @property
    def mask8(self) -> Any: ...
    @property
    def confidence(self) -> Any: ...
    @property
    def best(self) -> Any: ...
    @property
    def scores(self) -> Any: ...
    @property
    def probabilities(self) -> Any: ...
    @property
    def overlay(self) -> Any: ...
    @property
    def points(self) -> Any: ...

@final
class Stream:
    """Frames in, answers out. Any thread may use it, several at once."""

    def push(self, image: _Image, stamp_ns: int = 0, *, format: str | None = None) -> int | None: ...
    def poll(self) -> Answer | None: ...
    def recv(self, timeout: float | None = None) -> Answer | None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Answer: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def set_labels(self, labels: Sequence[str]) -> int: ...
    def stats(self) -> _StreamStats: ...
    def close(self) -> None: ...
    def stop(self) -> _StreamStats: ...
    @property
    def over(self) -> bool: ...
    @property
    def epoch(self) -> int: ...
    @property
    def notes(self) -> list[str]: ...

_One: TypeAlias = _Output | tuple[_Output]
_Several: TypeAlias = tuple[_Output, _Output, *tuple[_Output, ...]] | list[_Output]
_Images: TypeAlias = list[_Image] | tuple[_Image, ...] | list[_Array] | list[Tensor]
_Out = TypeVar("_Out", bound=_Array | Sequence[_Array])

@final
class Engine:
    """A model, ready to segment. An array of several images gives a list, as a list of images does."""

    def __new__(
        cls,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
        *,
        threads: int | None = None,
        context: Literal["auto", "own", "primary"] = "auto",
        memory: int | None = None,
    ) -> Self: ...
    @property
    def labels(self) -> list[str]: ...
    def set_labels(self, labels: Sequence[str], templates: Sequence[str] | None = None) -> None: ...
    @property
    def size(self) -> str: ...
    @size.setter
    def size(self, size: str | int | tuple[int, int]) -> None: ...
    @property
    def device(self) -> str: ...
    @property
    def embed_dim(self) -> int: ...
    @overload
    def segment(
        self,
        image: _Image,
        *,
        format: str | None = None,
        outputs: _One | None = None,
        threshold: float | None = None,
        out: None = None,
        on_device: Literal[False] = False,
    ) -> _Array: ...
    @overload
    def segment(
        self,
        image: _Image,
        *,
        format: str | None = None,
        outputs: _One | None = None,
        threshold: float | None = None,
        out: None = None,
        on_device: Literal[True],
    ) -> Tensor: ...
    @overload
    def segment(
        self,
        image: _Image,
        *,
        format: str | None = None,
        outputs: _Several,
        threshold: float | None = None,
        out: None = None,
        on_device: Literal[False] = False,
    ) -> Result: ...
    @overload
    def segment(
        self,
        image: _Image,
        *,
        format: str | None = None,
        outputs: _Several,
        threshold: float | None = None,
        out: None = None,
        on_device: Literal[True],
    ) -> Result: ...
    @overload
    def segment(
        self,
        image: _Images,
        *,
        format: str | None = None,
        outputs: _One | None = None,
        threshold: float | None = None,
        out: None = None,
        on_device: Literal[False] = False,
    ) -> list[_Array]: ...
    @overload
    def segment(
        self,
        image: _Images,
        *,
        format: str | None = None,
        outputs: _One | None = None,
        threshold: float | None = None,
        out: None = None,
        on_device: Literal[True],
    ) -> list[Tensor]: ...
    @overload
    def segment(
        self,
        image: _Images,
        *,
        format: str | None = None,
        outputs: _Several,
        threshold: float | None = None,
        out: None = None,
        on_device: Literal[False] = False,
    ) -> list[Result]: ...
    @overload
    def segment(
        self,
        image: _Images,
        *,
        format: str | None = None,
        outputs: _Several,
        threshold: float | None = None,
        out: None = None,
        on_device: Literal[True],
    ) -> list[Result]: ...
    @overload
    def segment(
        self,
        image: _Image | _Images,
        *,
        format: str | None = None,
        outputs: _One | None = None,
        threshold: float | None = None,
        out: _Out,
        on_device: Literal[False] = False,
    ) -> _Out: ...
    @overload
    def embed(
        self,
        image: _Image,
        *,
        at: Literal["half", "full", "photo"] = "half",
        dtype: Literal["float16", "float32"] = "float16",
        layout: Literal["chw", "hwc"] = "chw",
        normalize: bool = False,
        format: str | None = None,
        out: None = None,
        on_device: bool | None = None,
    ) -> Tensor: ...
    @overload
    def embed(
        self,
        image: _Images,
        *,
        at: Literal["half", "full", "photo"] = "half",
        dtype: Literal["float16", "float32"] = "float16",
        layout: Literal["chw", "hwc"] = "chw",
        normalize: bool = False,
        format: str | None = None,
        out: None = None,
        on_device: bool | None = None,
    ) -> list[Tensor]: ...
    @overload
    def embed(
        self,
        image: _Image | _Images,
        *,
        at: Literal["half", "full", "photo"] = "half",
        dtype: Literal["float16", "float32"] = "float16",
        layout: Literal["chw", "hwc"] = "chw",
        normalize: bool = False,
        format: str | None = None,
        out: _Out,
        on_device: bool | None = None,
    ) -> _Out: ...
    @overload
    def embed_at(self, image: _Image, points: ArrayLike, *, format: str | None = None) -> NDArray[np.float32]: ...
    @overload
    def embed_at(self, image: _Images, points: ArrayLike, *, format: str | None = None) -> list[NDArray[np.float32]]: ...
    def stream(
        self,
        *,
        policy: Literal["newest", "every"] = "newest",
        queue: int = 4,
        outputs: _Output | Sequence[_Output] | None = None,
        points: ArrayLike | None = None,
        threshold: float | None = None,
        on_device: bool = False,
        wait: Literal["block", "yield", "spin"] = "block",
        realtime: int | None = None,
        cpus: Sequence[int] | None = None,
        stale_after: float | None = None,
        pool: int = 4,
    ) -> Stream: ...
    def text(self, words: Sequence[str], templates: Sequence[str] | None = None) -> NDArray[np.float32]: ...
    def stats(self) -> _Stats: ...

def build_info() -> _BuildInfo: ...
