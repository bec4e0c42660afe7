"""Data sets with a mask of labels for each photo: any files, ADE20K, Cityscapes, PASCAL VOC, COCO-Panoptic."""

import glob
import json
import os
from pathlib import Path

import numpy as np

from . import classes, lists
from .errors import Refused
from .lists import shown
from .samples import IGNORED, OTHER, UNKNOWN, DataSet, Item, Segments, Values

VALUES = 1 << 16
"""Different values of a mask of 16 bits."""


def misfit(table, what):
    """The refusal of a table."""
    return Refused(f"data {shown(table.name or table.layout)}: {what}")


def folder(table, root, archive=None):
    """The data set's folder, or the one in it that its archive makes."""
    if table.folder is None:
        raise misfit(table, f"expected folder = where {table.layout} lies, found none")
    found = root / table.folder
    if not found.is_dir():
        raise Refused(f"{shown(found)}: expected the folder of {table.layout}, found no such folder")
    return found / archive if archive and (found / archive).is_dir() else found


def labels_or(own, table, root):
    """The words that `labels` gives in the place of a layout's own."""
    if table.labels is None:
        return own
    given = lists.labels(root / table.labels)
    if len(given) != len(own):
        raise Refused(
            f"{shown(root / table.labels)}: expected {len(own)} labels, one for each of {table.layout} in its order "
            f"(the first is {own[0][0]!r}), found {len(given)}"
        )
    return given


def meanings(table, labels, of_values, ignored, rest=UNKNOWN):
    """The `Values` of masks: `of_values` is {value: label}; `ignored` are the layout's own, which a table's `other` may
    claim."""
    means = np.full(VALUES, rest, np.int16)
    means[list(ignored)] = IGNORED
    for value, label in of_values.items():
        means[value] = label
    explicit = {}
    for setting, meaning in (("ignore", IGNORED), ("other", OTHER)):
        for value in getattr(table, setting) or []:
            problem = None
            if not 0 <= value < VALUES:
                problem = f"expected values of 0 to {VALUES - 1}, found {value}"
            elif value in of_values:
                problem = (
                    f"expected values without a label, found {value}, which is {shown(labels[of_values[value]][0])!r}"
                )
            elif explicit.get(value, meaning) != meaning:
                problem = f"expected values that are not ignored, found {value}, which is in both lists"
            if problem:
                raise misfit(table, f"{setting}: {problem}")
            explicit[value] = means[value] = meaning
    return Values(means, len(labels))


def of_values(values, labels, pairs):
    """A data set whose masks are all read alike; padding means what value 0 does, nothing if that has no meaning."""
    zero = int(values.table[0])
    items = [Item(photo, mask, values, labels) for photo, mask in pairs]
    return DataSet("", labels, items, IGNORED if zero == UNKNOWN else zero)


def matches(base, pattern, what):
    """Paths from `base`, sorted."""
    every = glob.iglob(pattern, root_dir=base, recursive=True)
    found = sorted({Path(path).as_posix() for path in every if (base / path).is_file()})
    if not found:
        raise Refused(f"{shown(base / pattern)}: expected {what}, found no such file")
    return found


def files(table, root):
    """Any photos whose masks' paths follow from theirs."""
    base = folder(table, root) if table.folder is not None else root
    for setting, what in (
        ("images", 'a pattern of photos such as "photos/**/*.jpg"'),
        ("mask", 'what makes a mask\'s path of its photo\'s, such as [["photos/", "masks/"], [".jpg", ".png"]]'),
        ("labels", "a file with one label a line"),
    ):
        if getattr(table, setting) is None:
            raise misfit(table, f"expected {setting} = {what}, found none")
    for pair in table.mask:
        if len(pair) != 2 or not pair[0]:
            raise misfit(table, f"mask: expected pairs [from, to], found {pair}")
    labels = lists.labels(root / table.labels)
    if table.ids is not None:
        if table.first != 0:
            raise misfit(table, "expected ids or first, found both; ids gives every label its values")
        with_label = lists.values(root / table.ids, labels)
    else:
        if not 0 <= table.first <= VALUES - len(labels):
            raise misfit(table, f"expected first = 0 to {VALUES - len(labels)}, found {table.first}")
        with_label = {table.first + i: i for i in range(len(labels))}
    values = meanings(table, labels, with_label, [255] if table.ignore is None else [])
    pairs = []
    for photo in matches(base, table.images, "photos"):
        mask = photo
        for old, new in table.mask:
            mask = mask.replace(old, new)
        if mask == photo:
            raise Refused(
                f"{shown(base / photo)}: expected a mask beside it, but mask = {table.mask} makes the photo of itself"
            )
        pairs.append((os.path.join(base, photo), os.path.join(base, mask)))
    return of_values(values, labels, pairs)


def split(table, usual):
    """A name of a folder or list, which leads nowhere else."""
    name = usual if table.split is None else table.split
    if not name or "/" in name or "\\" in name or name.startswith(".") or glob.has_magic(name):
        raise misfit(table, f"expected split = a name such as {usual!r}, found {shown(name)!r}")
    return name


def ade20k(table, root):
    """images/<split>/*.jpg, annotations/<split>/*.png; label = value - 1, value 0 is ignored."""
    base, part = folder(table, root, "ADEChallengeData2016"), split(table, "training")
    places = [base / "objectInfo150.txt", root / table.folder / "objectInfo150.txt"]
    path = next((p for p in places if p.is_file()), places[0]) if table.labels is None else root / table.labels
    if lists.is_ade20k_table(path):
        labels, rows = lists.ade20k_table(path)
    else:
        labels = lists.labels(path)
        rows = range(len(labels))
    values = meanings(table, labels, {row + 1: label for row, label in enumerate(rows)}, [0])
    photos = matches(base, f"images/{part}/*.jpg", "ADE20K's photos")
    masks = [p.replace("images/", "annotations/", 1).removesuffix(".jpg") + ".png" for p in photos]
    return of_values(values, labels, [(os.path.join(base, p), os.path.join(base, m)) for p, m in zip(photos, masks)])


def cityscapes(table, root):
    """leftImg8bit/<split>/*/*_leftImg8bit.png, gtFine/<split>/*/*_gtFine_labelIds.png; only train ids count."""
    base, part = folder(table, root), split(table, "train")
    labels = labels_or([(word,) for _, word in classes.CITYSCAPES], table, root)
    values = meanings(table, labels, {value: i for i, (value, _) in enumerate(classes.CITYSCAPES)}, [], rest=IGNORED)
    photos = matches(base, f"leftImg8bit/{part}/*/*_leftImg8bit.png", "Cityscapes' photos")
    masks = [
        p.replace("leftImg8bit/", "gtFine/", 1).removesuffix("_leftImg8bit.png") + "_gtFine_labelIds.png"
        for p in photos
    ]
    return of_values(values, labels, [(os.path.join(base, p), os.path.join(base, m)) for p, m in zip(photos, masks)])


def voc_masks(base, names):
    """The first of these folders that is there."""
    found = next((base / name for name in names if (base / name).is_dir()), None)
    if found is None:
        raise Refused(f"{shown(base)}: expected {' or '.join(names)} in it, found neither")
    return found


def voc(table, root):
    """JPEGImages, SegmentationClass (or SegmentationClassAug), ImageSets/Segmentation/<split>.txt; 255 is ignored."""
    base, part = folder(table, root, "VOC2012"), split(table, "train")
    labels = labels_or([(word,) for word in classes.VOC], table, root)
    values = meanings(table, labels, {i: i for i in range(len(labels))}, [255])
    masks = voc_masks(base, ("SegmentationClass", "SegmentationClassAug"))
    path = base / "ImageSets" / "Segmentation" / f"{part}.txt"
    names = [line for _, line in lists.lines(path, "one photo a line") if line]
    pairs = [
        (lists.inside(base / "JPEGImages", f"{n}.jpg", path), lists.inside(masks, f"{n}.png", path)) for n in names
    ]
    return of_values(values, labels, pairs)


def coco_panoptic(table, root):
    """<split>/*.jpg; annotations/panoptic_<split>.json, whose categories are the labels in its order; masks' segments
    are r + 256 g + 65536 b. Segment 0 is ignored, a crowd keeps its category."""
    base, part = folder(table, root), split(table, "train2017")
    default = base / "annotations" / f"panoptic_{part}.json"
    path = default if table.panoptic is None else root / table.panoptic
    expected = "COCO-Panoptic's annotations"
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise Refused(
            f"{shown(path)}: expected {expected}, found no file that can be read ({error.strerror})"
        ) from None
    except (ValueError, RecursionError) as error:
        raise Refused(f"{shown(path)}: expected {expected}, found no JSON ({shown(error)})") from None
    try:
        own = [(str(category["name"]).strip(),) for category in content["categories"]]
        index = {int(category["id"]): i for i, category in enumerate(content["categories"])}
        photos = {image["id"]: image["file_name"] for image in content["images"]}
        if not own or len({lists.key(name) for (name,) in own}) != len(own):
            raise Refused(
                f"{shown(path)}: expected categories of different names, found {len(own)} of which some are alike"
            )
        labels = labels_or(own, table, root)
        items = [panoptic_item(base / part, path, note, photos, index, labels) for note in content["annotations"]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else shown(error)
        raise Refused(f"{shown(path)}: expected {expected}, found another JSON ({what})") from None
    if not items:
        raise Refused(f"{shown(path)}: expected {expected}, found none in it")
    return DataSet("", labels, items)


def panoptic_item(photos, path, note, names, index, labels):
    segments = {}
    for segment in note["segments_info"]:
        if segment["category_id"] not in index:
            raise Refused(
                f"{shown(path)}: expected one of the {len(index)} categories for segment {shown(segment['id'])} of "
                f"{shown(note['file_name'])}, found id {shown(segment['category_id'])}"
            )
        segments[int(segment["id"])] = index[segment["category_id"]]
    segments[0] = IGNORED
    ids = np.array(sorted(segments), np.int32)
    truth = np.array([segments[i] for i in ids.tolist()], np.int16)
    masks = path.with_suffix("")
    photo = lists.inside(photos, names[note["image_id"]], path)
    return Item(photo, lists.inside(masks, note["file_name"], path), Segments(ids, truth), labels)


LAYOUTS = {
    "files": (files, ("images", "mask", "ids", "first", "ignore", "other")),
    "ade20k": (ade20k, ("split", "ignore", "other")),
    "cityscapes": (cityscapes, ("split", "ignore", "other")),
    "voc": (voc, ("split", "ignore", "other")),
    "coco-panoptic": (coco_panoptic, ("split", "panoptic")),
}
