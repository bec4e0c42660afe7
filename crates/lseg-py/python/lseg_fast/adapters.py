"""The engine under the names that other projects call their LSeg or their encoder by.

Nothing here imports PyTorch before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lseg_fast._native import Engine
from lseg_fast.errors import InputError

if TYPE_CHECKING:
    # Untyped where PyTorch is not installed.
    from torch import Tensor  # type: ignore[import-not-found,unused-ignore]
else:
    Tensor = Any

# Every side of the network's input is a multiple of this.
_STEP = 32


class RayFrontsEncoder:
    """RayFronts' encoder of images and words (its `LangSpatialImageEncoder`): pixels and words share one space, so that nothing is left
    to align. Tensors are PyTorch's, and stay on the GPU where the engine and the image are there.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Engine | None = None,
        device: str = "auto",
        *,
        templates: Sequence[str] = (),
        dtype: Literal["float16", "float32"] = "float32",
    ) -> None:
        """`templates` are texts around labels ("a photo of a {}"), whose mean stands for a label."""
        self.engine = model if isinstance(model, Engine) else Engine(model, device)
        self.engine.size = "native"
        self.device = "cpu" if self.engine.device.startswith("cpu") else "cuda"
        self.templates = tuple(templates)
        self.dtype: Literal["float16", "float32"] = dtype

    def encode_image_to_feat_map(self, rgb_image: Tensor) -> Tensor:
        """[B, 3, H, W] in 0-1 to [B, C, H/2, W/2]."""
        import torch  # type: ignore[import-not-found,unused-ignore]

        maps = self.engine.embed(rgb_image.detach(), dtype=self.dtype)
        batch = maps if isinstance(maps, list) else [maps]
        return torch.stack([torch.from_dlpack(one) for one in batch])

    def encode_labels(self, labels: Sequence[str]) -> Tensor:
        """[T, C], unit vectors: of each label in the templates."""
        return self._texts(labels, self.templates)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """[T, C], unit vectors: of each text as it is."""
        return self._texts(prompts, ())

    def align_spatial_features_with_language(self, features: Tensor) -> Tensor:
        """The same: they are."""
        return features

    def is_compatible_size(self, h: int, w: int) -> bool:
        """Whether an image of this size is seen as it is."""
        return self.get_nearest_size(h, w) == (h, w)

    def get_nearest_size(self, h: int, w: int) -> tuple[int, int]:
        """The (height, width) at which the network sees an image of this size."""
        return _nearest(h), _nearest(w)

    def _texts(self, texts: Sequence[str], templates: Sequence[str]) -> Tensor:
        import torch  # type: ignore[import-not-found,unused-ignore]

        vectors = torch.from_numpy(self.engine.text(list(texts), templates=list(templates)))
        return vectors.to(device=self.device, dtype=getattr(torch, self.dtype))


def get_lseg_feat(
    model: Engine,
    image: NDArray[np.uint8],
    labels: Sequence[str] = (),
    transform: object = None,
    device: object = None,
    crop_size: int = 480,
    base_size: int = 520,
    norm_mean: Sequence[float] = (0.5, 0.5, 0.5),
    norm_std: Sequence[float] = (0.5, 0.5, 0.5),
    vis: bool = False,
) -> NDArray[np.float32]:
    """VLMaps' function of this name: uint8 [H, W, 3] to the embeddings [1, C, H', W'] of the image brought to `base_size` on its longer
    side.

    One pass sees the whole image, where VLMaps takes the mean of overlapping windows of `crop_size`: the vectors are alike, not the
    same. `labels`, `transform`, `device` and `crop_size` are taken for the signature's sake; the engine normalises by itself, as
    the published weights want it. While it runs, the engine's size is changed: let no other thread use it.
    """
    if vis or tuple(norm_mean) != (0.5,) * 3 or tuple(norm_std) != (0.5,) * 3:
        raise InputError("get_lseg_feat: expected vis=False, and means and deviations of 0.5, which the weights are made for")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"get_lseg_feat: expected uint8 [H, W, 3], found {image.dtype} {list(image.shape)}")
    height, width = _long_side(image.shape[0], image.shape[1], base_size)
    planes = _resized(image, height, width).transpose(2, 0, 1) / np.float32(255)
    size = model.size
    model.size = "native"
    try:
        embeddings = model.embed(np.ascontiguousarray(planes), at="photo", dtype="float32")
    finally:
        model.size = size
    return embeddings.numpy()[None]


def _nearest(side: int) -> int:
    """The nearest multiple of 32, halves up."""
    return max(1, (2 * side + _STEP) // (2 * _STEP)) * _STEP


def _long_side(height: int, width: int, long: int) -> tuple[int, int]:
    """(height, width) with the longer side brought to this length, rounded as VLMaps does."""
    if height > width:
        return long, int(width * long / height + 0.5)
    return int(height * long / width + 0.5), long


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear between the outer pixels' centres (PyTorch's align_corners=True)."""
    rows, columns = (np.linspace(0, old - 1, new, dtype=np.float32) for old, new in zip(image.shape, (height, width)))
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    bottom, right = np.minimum(top + 1, image.shape[0] - 1), np.minimum(left + 1, image.shape[1] - 1)
    down, along = np.modf(rows)[0][:, None, None], np.modf(columns)[0][None, :, None]
    pixels = image.astype(np.float32)
    upper = pixels[top][:, left] * (1 - along) + pixels[top][:, right] * along
    lower = pixels[bottom][:, left] * (1 - along) + pixels[bottom][:, right] * along
    mixed: NDArray[np.float32] = upper * (1 - down) + lower * down
    return mixed
