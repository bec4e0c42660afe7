"""Small data sets in every layout, drawn here: coloured rectangles, and what each is."""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from lseg_train import classes
from lseg_train.data import IGNORED, OTHER, DataTable

PHOTOS = 8
SEGMENT = 70_000
"""Of segment ids: more than 16 bits."""


@dataclass
class Tree:
    root: Path
    table: DataTable
    truths: dict[str, np.ndarray] = field(default_factory=dict)
    """By the photo's path from the root, and of episodes the class's word behind a tab."""
    masks: list[Path] = field(default_factory=list)
    photos: Path | None = None
    """The folder that is emptied to see that an empty folder is refused."""
    other_id: int | None = None
    """A value of a mask that means nothing; None where each means something."""


def painted(rng, values):
    """A mask of rectangles of these values, u16 [h, w]; every value is there."""
    height, width = int(rng.integers(48, 81)), int(rng.integers(64, 97))
    mask = np.full((height, width), values[0], np.uint16)
    for i, value in enumerate(rng.permutation(values)):
        y, x = int(rng.integers(0, height - 24)), int(rng.integers(0, width - 24))
        mask[y : y + 24, x : x + 24] = value
        mask[0, i] = value
    return mask


def photo_of(mask):
    """A colour for each value."""
    v = mask.astype(np.int64)
    return np.stack([v * 37 % 256, v * 91 % 256, v * 53 % 256], 2).astype(np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if options.pop("indexed", False):
        image = Image.fromarray(array.astype(np.uint8), "L").convert("P")
        image.putdata(array.astype(np.uint8).ravel().tolist())
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    image.save(path, **options)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def truth_of(mask, meanings, rest=None):
    truth = np.full(mask.shape, -9 if rest is None else rest, np.int16)
    for value, meaning in meanings.items():
        truth[mask == value] = meaning
    assert (truth != -9).all()
    return truth


def files(root, rng):
    labels = ["wall;brick wall", "tree", "car;motor car;auto"]
    write(root / "words.txt", "# of our street\n" + "\n".join(labels) + "\n\n")
    write(root / "ids.txt", "7 wall\n300,motor car\n9\ttree\n11 tree\n")
    meanings = {7: 0, 300: 2, 9: 1, 11: 1, 255: IGNORED, 0: OTHER, 400: OTHER}
    table = DataTable(images="photos/**/*.jpg", mask=[["photos/", "masks/"], [".jpg", ".png"]], labels="words.txt")
    table.ids, table.other, table.name = "ids.txt", [0, 400], "street"
    tree = Tree(root, table, photos=root / "photos", other_id=5)
    for i in range(PHOTOS):
        mask = painted(rng, list(meanings))
        name = f"{'abc'[i % 3]}/{i}" if i % 2 else str(i)
        save(root / "photos" / f"{name}.jpg", photo_of(mask))
        save(root / "masks" / f"{name}.png", mask)
        tree.masks.append(root / "masks" / f"{name}.png")
        tree.truths[f"photos/{name}.jpg"] = truth_of(mask, meanings)
    return tree


def ade20k(root, rng):
    words = [f"thing {i}" for i in range(12)]
    rows = [f"{i}\t0.1\t1\t1\t1\t{w}, its synonym {i}" for i, w in enumerate(words, 1)]
    home = root / "ade" / "ADEChallengeData2016"
    write(home / "objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "\n".join(rows) + "\n")
    tree = Tree(root, DataTable(layout="ade20k", folder="ade"), photos=home / "images" / "training", other_id=13)
    for i in range(PHOTOS):
        mask = painted(rng, [0, 1, 5, 12])
        save(home / "images" / "training" / f"{i}.jpg", photo_of(mask))
        save(home / "annotations" / "training" / f"{i}.png", mask.astype(np.uint8))
        tree.masks.append(home / "annotations" / "training" / f"{i}.png")
        name = f"ade/ADEChallengeData2016/images/training/{i}.jpg"
        tree.truths[name] = truth_of(mask, {0: IGNORED, 1: 0, 5: 4, 12: 11})
    return tree


def cityscapes(root, rng):
    home = root / "city"
    tree = Tree(root, DataTable(layout="cityscapes", folder="city"), photos=home / "leftImg8bit" / "train")
    for i in range(PHOTOS):
        mask, town = painted(rng, [0, 7, 26, 9, 33]), f"town{i % 2}"
        save(home / "leftImg8bit" / "train" / town / f"{i}_leftImg8bit.png", photo_of(mask))
        save(home / "gtFine" / "train" / town / f"{i}_gtFine_labelIds.png", mask.astype(np.uint8))
        tree.masks.append(home / "gtFine" / "train" / town / f"{i}_gtFine_labelIds.png")
        name = f"city/leftImg8bit/train/{town}/{i}_leftImg8bit.png"
        tree.truths[name] = truth_of(mask, {7: 0, 26: 13, 33: 18}, rest=IGNORED)
    return tree


def voc(root, rng):
    home = root / "pascal" / "VOC2012"
    tree = Tree(root, DataTable(layout="voc", folder="pascal"), photos=home / "JPEGImages", other_id=21)
    for i in range(PHOTOS):
        mask = painted(rng, [0, 15, 20, 255])
        save(home / "JPEGImages" / f"p{i}.jpg", photo_of(mask))
        save(home / "SegmentationClass" / f"p{i}.png", mask, indexed=True)
        tree.masks.append(home / "SegmentationClass" / f"p{i}.png")
        tree.truths[f"pascal/VOC2012/JPEGImages/p{i}.jpg"] = truth_of(mask, {0: 0, 15: 15, 20: 20, 255: IGNORED})
    write(home / "ImageSets" / "Segmentation" / "train.txt", "".join(f"p{i}\n" for i in range(PHOTOS)))
    return tree


def coco_panoptic(root, rng):
    home, categories = root / "coco", [(1, "person"), (3, "car"), (187, "sky-other-merged")]
    tree = Tree(root, DataTable(layout="coco-panoptic", folder="coco"), photos=home / "train2017", other_id=1234)
    images, notes = [], []
    for i in range(PHOTOS):
        mask = painted(rng, [0, 1, 2, 3, 4])  # the place of a segment, 0 for none
        segments = {place: SEGMENT * place + i for place in (1, 2, 3, 4)}
        ids = np.zeros(mask.shape, np.int64)
        for place, number in segments.items():
            ids[mask == place] = number
        save(home / "train2017" / f"{i:012}.jpg", photo_of(mask))
        path = home / "annotations" / "panoptic_train2017" / f"{i:012}.png"
        save(path, np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8))
        tree.masks.append(path)
        which = {1: 1, 2: 3, 3: 187, 4: 1}
        infos = [{"id": n, "category_id": which[place], "iscrowd": int(place == 4)} for place, n in segments.items()]
        images.append({"id": 100 + i, "file_name": f"{i:012}.jpg"})
        notes.append({"image_id": 100 + i, "file_name": f"{i:012}.png", "segments_info": infos})
        tree.truths[f"coco/train2017/{i:012}.jpg"] = truth_of(mask, {0: IGNORED, 1: 0, 2: 1, 3: 2, 4: 0})
    content = {
        "images": images[::-1],
        "annotations": notes,
        "categories": [{"id": k, "name": n} for k, n in categories],
    }
    write(home / "annotations" / "panoptic_train2017.json", json.dumps(content))
    return tree


def pascal_5i(root, rng):
    """Fold 1 tests 6 to 10; the others are trained."""
    home, lists = root / "p5i" / "VOC2012", {fold: "" for fold in range(4)}
    tree = Tree(root, DataTable(layout="pascal-5i", folder="p5i", fold=1), photos=home / "JPEGImages")
    for i in range(PHOTOS):
        mask, fold = painted(rng, [0, 1, 7, 12, 20, 255]), i % 4
        value = {0: 1, 1: 7, 2: 12, 3: 20}[fold]
        save(home / "JPEGImages" / f"2007_{i:06}.jpg", photo_of(mask))
        save(home / "SegmentationClassAug" / f"2007_{i:06}.png", mask.astype(np.uint8))
        lists[fold] += f"2007_{i:06}__{value:02}\n"
        if fold != 1:
            tree.masks.append(home / "SegmentationClassAug" / f"2007_{i:06}.png")
            name = f"p5i/VOC2012/JPEGImages/2007_{i:06}.jpg\t{classes.VOC[value]}"
            tree.truths[name] = truth_of(mask, {value: 1, 255: IGNORED}, rest=0)
    for fold, text in lists.items():
        write(root / "p5i" / "splits" / "pascal" / "trn" / f"fold{fold}.txt", text)
    return tree


def coco_20i(root, rng):
    """Fold 2 tests 2, 6, 10, …"""
    home, photos = root / "c20i" / "COCO2014", {number: [] for number in range(80)}
    tree = Tree(root, DataTable(layout="coco-20i", folder="c20i", fold=2), photos=home / "train2014")
    for i in range(PHOTOS):
        mask = painted(rng, [0, 1, 4, 80])
        name = f"train2014/COCO_train2014_{i:012}"
        save(home / f"{name}.jpg", photo_of(mask))
        save(home / "annotations" / f"{name}.png", mask.astype(np.uint8))
        tree.masks.append(home / "annotations" / f"{name}.png")
        for number in (0, 3, 79)[: 1 + i % 3]:
            photos[number].append(f"{name}.jpg")
            key = f"c20i/COCO2014/{name}.jpg\t{classes.COCO[number]}"
            tree.truths[key] = truth_of(mask, {number + 1: 1}, rest=0)
    path = root / "c20i" / "splits" / "coco" / "trn" / "fold2.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(photos, protocol=3))
    return tree


def fss_1000(root, rng):
    home, names = root / "fss" / "FSS-1000", ["taxi", "abacus"]
    tree = Tree(root, DataTable(layout="fss-1000", folder="fss"), photos=home / "taxi")
    write(root / "fss" / "splits" / "fss" / "trn.txt", "taxi\nabacus\n")
    for i in range(PHOTOS):
        mask, name = painted(rng, [0, 127, 128, 255]), names[i % 2]
        save(home / name / f"{i}.jpg", photo_of(mask))
        save(home / name / f"{i}.png", np.stack([mask.astype(np.uint8)] * 3, 2))
        tree.masks.append(home / name / f"{i}.png")
        tree.truths[f"fss/FSS-1000/{name}/{i}.jpg\t{name}"] = truth_of(mask, {128: 1, 255: 1}, rest=0)
    return tree


BUILDERS = {
    "files": files,
    "ade20k": ade20k,
    "cityscapes": cityscapes,
    "voc": voc,
    "coco-panoptic": coco_panoptic,
    "pascal-5i": pascal_5i,
    "coco-20i": coco_20i,
    "fss-1000": fss_1000,
}


def build(layout, root, seed=0):
    return BUILDERS[layout](root, np.random.default_rng(seed))
