"""Samples, what makes them of a photo and its mask, and sets of them."""

import os
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from . import pictures
from .errors import Refused
from .lists import shown

IGNORED, OTHER = -1, -2
UNKNOWN = -3
"""In a `Values` table only: a value that is neither of a label, nor ignored, nor other."""

OTHER_WORD = "other"


@dataclass
class Sample:
    photo: np.ndarray
    """u8 [h, w, 3]: upright (EXIF), what is transparent on white."""
    truth: np.ndarray
    """int16 [h, w]: an index into `labels`, IGNORED, or OTHER."""
    labels: list[tuple[str, ...]]
    """The words of each label: its name, then its synonyms."""
    episode: bool = False
    """Whether the labels are ["others", a class], which are offered together or not at all."""


class Truth(Protocol):
    """How a mask is read."""

    def read(self, mask: str) -> np.ndarray:
        """int16 [h, w] as in `Sample`."""
        ...


@dataclass
class Values:
    """Of masks whose pixels are values: `table`, int16 [65536], says what each means."""

    table: np.ndarray
    labels: int

    def read(self, mask):
        ids = pictures.ids(mask)
        truth = self.table[ids]
        if (truth == UNKNOWN).any():
            raise unknown(mask, ids[truth == UNKNOWN], f"the {self.labels} labels")
        return truth


@dataclass
class OneClass:
    """Of an episode: label 1 where the mask has the class's value, label 0 elsewhere, but for what is ignored."""

    value: int
    ignored: int | None = None

    def read(self, mask):
        ids = pictures.ids(mask)
        truth = (ids == self.value).astype(np.int16)
        if self.ignored is not None:
            truth[ids == self.ignored] = IGNORED
        return truth


class Bright:
    """Of an episode: label 1 where the mask is brighter than half, label 0 elsewhere."""

    def read(self, mask):
        return pictures.bright(mask).astype(np.int16)


@dataclass
class Segments:
    """Of COCO-Panoptic: the photo's segments, in rising order, and what each means (int16). Segment 0 is ignored."""

    ids: np.ndarray
    truth: np.ndarray

    def read(self, mask):
        ids = pictures.panoptic_ids(mask)
        places = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        if (self.ids[places] != ids).any():
            raise unknown(mask, ids[self.ids[places] != ids], f"the photo's {len(self.ids) - 1} segments")
        return self.truth[places]


def unknown(mask, ids, those):
    """The refusal of a mask in which these pixels' `ids` mean nothing."""
    values, counts = np.unique(ids, return_counts=True)
    most = counts.argmax()
    more = f" (and {len(values) - 1} more such ids)" if len(values) > 1 else ""
    return Refused(
        f"{shown(mask)}: expected ids of {those}, ignored or other ones, found id {values[most]} in {counts[most]} "
        f"pixel{'s' if counts[most] > 1 else ''}{more}"
    )


@dataclass
class Item:
    photo: str
    """A path, as a string: a set may have hundreds of thousands."""
    mask: str
    truth: Truth
    labels: list[tuple[str, ...]]


@dataclass
class DataSet:
    name: str
    labels: list[tuple[str, ...]]
    """Of episodes: "others" and every class."""
    items: list[Item] = field(repr=False)
    pad: int = IGNORED
    """The truth of what PyTorch-Encoding's augmentation adds to a photo: what value 0 of a mask means."""
    episodes: bool = False
    weight: float = 1.0
    synonyms: str = "random"

    def __len__(self):
        return len(self.items)

    def title(self, i):
        return self.items[i].photo

    def load(self, i) -> Sample:
        item = self.items[i]
        photo, truth = pictures.photo(item.photo), item.truth.read(item.mask)
        (h, w), (mask_h, mask_w) = photo.shape[:2], truth.shape
        if (h, w) != (mask_h, mask_w):
            raise Refused(
                f"{shown(item.mask)}: expected a mask of {w}×{h} pixels as {shown(item.photo)}, found {mask_w}×{mask_h}"
            )
        return Sample(photo, truth, item.labels, self.episodes)

    def words(self):
        """Every word that may be offered for a sample."""
        words = [word for own in self.labels for word in (own if self.synonyms == "random" else own[:1])]
        return list(dict.fromkeys(words if self.episodes else [*words, OTHER_WORD]))

    def absent(self):
        """A line for each photo or mask that is not there."""
        files = dict.fromkeys(path for item in self.items for path in (item.photo, item.mask))
        return [
            f"{shown(path)}: expected a photo or its mask, found no such file"
            for path in files
            if not os.path.isfile(path)
        ]
