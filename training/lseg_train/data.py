"""Data sets of photos and masks: what a [[data]] table may say, and the data set that is made of it.

The layouts are in `layouts.py` (a mask of labels for each photo) and `episodes.py` (one class for each). Names, values
and defaults are those of `lseg-fast eval` (docs/eval.md)."""

from dataclasses import dataclass, fields
from pathlib import Path

from . import episodes, layouts
from .errors import Refused
from .lists import shown
from .samples import IGNORED, OTHER, OTHER_WORD, DataSet, Sample

__all__ = ["IGNORED", "OTHER", "OTHER_WORD", "DataSet", "DataTable", "Sample", "open_data"]

LAYOUTS = {**layouts.LAYOUTS, **episodes.LAYOUTS}
"""What makes the data set, and which settings it has beside those of all."""

OF_ALL = ("name", "layout", "weight", "synonyms", "folder", "labels")


@dataclass
class DataTable:
    """A [[data]] table. Paths are relative to the folder of the configuration."""

    name: str | None = None
    """Of the data set in messages; by default its layout and folder."""
    layout: str = "files"
    """files, ade20k, cityscapes, voc, coco-panoptic, pascal-5i, coco-20i or fss-1000."""
    weight: float = 1.0
    """How often its samples are drawn, relative to the other tables'."""
    synonyms: str = "random"
    """random: a label is offered by any of its words; first: by its name."""
    folder: str | None = None
    """Where the data set lies; of files, where `images` starts (by default the configuration's folder)."""
    split: str | None = None
    """ade20k: training; cityscapes: train; voc: train (a list in ImageSets/Segmentation); coco-panoptic: train2017;
    of episodes: trn."""
    labels: str | None = None
    """A file, one label a line, synonyms behind it between semicolons. Of the layouts with labels of their own as many
    as those, in their order."""
    images: str | None = None
    """files: a pattern such as "photos/**/*.jpg"."""
    mask: list[list[str]] | None = None
    """files: [[from, to], …], replaced one after the other in the photo's path from `folder`; this makes the mask's."""
    ids: str | None = None
    """files: a file with a mask's value and a label a line, "7 road"; without it value `first` is the first label."""
    first: int = 0
    """files: the value of the first label."""
    ignore: list[int] | None = None
    """Values whose pixels count nowhere; of files [255] by default, otherwise beside the layout's own."""
    other: list[int] | None = None
    """Values whose pixels no label names: right for them is the word "other"."""
    fold: int | None = None
    """pascal-5i, coco-20i: the fold, 0 to 3, that tests; the classes of the other three are trained."""
    splits: str | None = None
    """Of episodes: the folder of the lists of photos, by default `splits` in `folder`."""
    panoptic: str | None = None
    """coco-panoptic: the JSON file, by default annotations/panoptic_<split>.json in `folder`; masks lie in the folder
    of its name without ".json"."""


def open_data(table: DataTable, root: Path, absent_files="refuse") -> DataSet:
    """The data set of a table; `root`: the configuration's folder. Photos and masks are looked for, and read at `load`
    only. With `absent_files="keep"` those that are missing stay in the set, and their `load` is refused."""
    name = table.name or " ".join(filter(None, [table.layout, table.folder]))
    for setting, allowed in (("layout", LAYOUTS), ("synonyms", ("random", "first"))):
        value = getattr(table, setting)
        if value not in allowed:
            raise Refused(
                f"data {shown(name)}: expected {setting} = one of {', '.join(allowed)}, found {shown(value)!r}"
            )
    if not 0 < table.weight < float("inf"):
        raise Refused(f"data {shown(name)}: expected a weight above 0, found {table.weight}")
    maker, settings = LAYOUTS[table.layout]
    for setting in fields(table):
        if setting.name not in (*OF_ALL, *settings) and getattr(table, setting.name) != setting.default:
            raise Refused(
                f"data {shown(name)}: expected no {setting.name}, which {table.layout} does not have (it has "
                f"{', '.join(settings)}), found {shown(getattr(table, setting.name))}"
            )
    found = maker(table, Path(root))
    found.name, found.weight, found.synonyms = name, table.weight, table.synonyms
    if absent_files == "refuse" and (lines := found.absent()):
        more = f"\nand {len(lines) - 5} more" if len(lines) > 5 else ""
        raise Refused("\n".join(lines[:5]) + more)
    return found
