"""Language-driven semantic segmentation (LSeg): words and an image in, every pixel named.

    import lseg_fast

    engine = lseg_fast.Engine("lseg.safetensors")
    engine.set_labels(["dog", "grass", "other"])
    mask = engine.segment(image)  # uint16 [H, W], indices into the labels

docs/python.md of the repository has all of it.
"""

from lseg_fast._native import Answer, Engine, Result, Stream, Tensor, build_info
from lseg_fast.errors import (
    BusyError,
    DeviceError,
    Error,
    InputError,
    LostError,
    ModelError,
    OutOfMemoryError,
)

__version__: str = build_info()["version"]

__all__ = [
    "Answer",
    "BusyError",
    "DeviceError",
    "Engine",
    "Error",
    "InputError",
    "LostError",
    "ModelError",
    "OutOfMemoryError",
    "Result",
    "Stream",
    "Tensor",
    "__version__",
    "build_info",
]
