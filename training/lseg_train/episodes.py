"""Few-shot data sets without shots: a photo is asked for "others" and one class.

docs/eval.md has the side that tests; the side that trains is here as LSeg's and HSNet's `fewshot_data` have it. An
epoch of ours is every line of the lists once. (Theirs draws COCO-20i's class first, then one of its photos.)"""

import re
from pathlib import Path

from . import classes, lists
from .errors import Refused
from .layouts import folder, labels_or, misfit, voc_masks
from .lists import shown
from .samples import Bright, DataSet, Item, OneClass

OTHERS = ("others",)
FOLDS = 4


def fold(table):
    if table.fold is None or not 0 <= table.fold < FOLDS:
        raise misfit(table, f"expected fold = 0 to {FOLDS - 1}, found {table.fold}")
    return table.fold


def side(table, sides):
    found = table.split or "trn"
    if found not in sides:
        raise misfit(table, f"expected split = one of {', '.join(sides)}, found {shown(found)!r}")
    return found


def splits(table, root):
    return root / table.splits if table.splits is not None else root / table.folder / "splits"


def of_episodes(table, labels, items):
    """Padding is "others": value 0 of a mask."""
    for word in (word for own in labels for word in own):
        if lists.key(word) in OTHERS:
            raise misfit(table, f"expected other words than 'others', found {shown(word)!r}")
    return DataSet("", [OTHERS, *labels], items, pad=0, episodes=True)


def pascal_5i(table, root):
    """VOC2012/{JPEGImages, SegmentationClassAug}; pascal/{trn,val}/fold<i>.txt has lines as 2007_000033__01: a photo
    and its class, from 1, of 5i to 5i + 4. Trained are the lists trn of the other three folds; 255 is ignored."""
    base, tested, part = folder(table, root, "VOC2012"), fold(table), side(table, ("trn", "val"))
    labels = labels_or([(word,) for word in classes.VOC[1:]], table, root)
    masks = voc_masks(base, ("SegmentationClassAug", "SegmentationClass"))
    folds = [i for i in range(FOLDS) if (i == tested) == (part == "val")]
    items = []
    for i in folds:
        path = splits(table, root) / "pascal" / part / f"fold{i}.txt"
        for number, line in lists.lines(path, "a photo and its class a line"):
            name, _, digits = line.partition("__")
            value = int(digits) if re.fullmatch("[0-9]{1,4}", digits) else 0
            if not 5 * i < value <= 5 * (i + 1):
                raise Refused(
                    f"{shown(path)}: expected a photo and a class of fold {i} such as 2007_000033__{5 * i + 1:02}, "
                    f"found {shown(line)!r} in line {number}"
                )
            files = lists.inside(base / "JPEGImages", f"{name}.jpg", path), lists.inside(masks, f"{name}.png", path)
            items.append(Item(*files, OneClass(value, ignored=255), [OTHERS, labels[value - 1]]))
    return of_episodes(table, [label for i in folds for label in labels[5 * i : 5 * i + 5]], items)


def coco_20i(table, root):
    """COCO2014/{train2014, val2014, annotations}; coco/{trn,val}/fold<f>.pkl is a pickled {class: [photos]}, of which
    trn has the classes that are trained, all but f, f + 4, f + 8, … (val: those). Value = class + 1."""
    base, tested, part = folder(table, root, "COCO2014"), fold(table), side(table, ("trn", "val"))
    labels = labels_or([(word,) for word in classes.COCO], table, root)
    path = splits(table, root) / "coco" / part / f"fold{tested}.pkl"
    photos = {number: names for number, names in sorted(lists.pickled_lists(path).items()) if names}
    items = []
    for number, names in photos.items():
        if not (0 <= number < len(labels) and (number % FOLDS == tested) == (part == "val")):
            raise Refused(f"{shown(path)}: expected classes of {part} of fold {tested}, found photos of class {number}")
        truth, own, masks = OneClass(number + 1), [OTHERS, labels[number]], base / "annotations"
        for name in names:
            if not name.endswith(".jpg"):
                raise Refused(f"{shown(path)}: expected photos such as train2014/NAME.jpg, found {shown(name)!r}")
            mask = lists.inside(masks, name.removesuffix(".jpg") + ".png", path)
            items.append(Item(lists.inside(base, name, path), mask, truth, own))
    if not items:
        raise Refused(f"{shown(path)}: expected lists of photos, found none")
    return of_episodes(table, [labels[number] for number in photos], items)


def fss_1000(table, root):
    """FSS-1000/<class>/<n>.{jpg,png}; the classes are those of fss/{trn,val,test}.txt, sorted, and a class's word is
    its folder's name. Masks are bright (128 or more) where the class is."""
    base, part = folder(table, root, "FSS-1000"), side(table, ("trn", "val", "test"))
    path = splits(table, root) / "fss" / f"{part}.txt"
    names = sorted({line for _, line in lists.lines(path, "one class a line") if line})
    labels = labels_or([(name,) for name in names], table, root)
    items = []
    for name, label in zip(names, labels):
        place = Path(lists.inside(base, name, path))
        photos = sorted(place.glob("*.jpg"))
        if not photos:
            raise Refused(f"{shown(place)}: expected the photos of a class of {shown(path)}, found none")
        items += [Item(str(photo), str(photo.with_suffix(".png")), Bright(), [OTHERS, label]) for photo in photos]
    return of_episodes(table, labels, items)


LAYOUTS = {
    "pascal-5i": (pascal_5i, ("split", "splits", "fold")),
    "coco-20i": (coco_20i, ("split", "splits", "fold")),
    "fss-1000": (fss_1000, ("split", "splits")),
}
