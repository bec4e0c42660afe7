"""The tables of the paper's seven data sets read trees such as they expect."""

import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import trees
from lseg_train.data import IGNORED, DataTable, open_data

SEVEN = Path(__file__).parent.parent / "recipes" / "seven"
LABELS = {
    "ade20k": 150,
    "bdd100k": 19,
    "cityscapes": 19,
    "coco-panoptic": 133,
    "idd": 26,
    "mapillary": 65,
    "sun-rgbd": 37,
}
OF_FILES = {
    "bdd100k": ("images/10k/train/x.jpg", "labels/sem_seg/masks/train/x.png", {0: 0, 18: 18, 255: IGNORED}),
    "idd": (
        "leftImg8bit/train/3/x_leftImg8bit.jpg",
        "gtFine/train/3/x_gtFine_labellevel3Ids.png",
        {0: 0, 25: 25, 255: IGNORED},
    ),
    "mapillary": ("training/images/x.jpg", "training/labels/x.png", {0: 0, 64: 64, 65: IGNORED}),
    "sun-rgbd": ("images/x.jpg", "labels/x.png", {0: IGNORED, 1: 0, 37: 36}),
}


def table_of(recipe):
    content = tomllib.loads((SEVEN / f"{recipe}.toml").read_text())
    assert list(content) == ["data"] and len(content["data"]) == 1
    assert set(content["data"][0]) <= {field.name for field in fields(DataTable)}
    return DataTable(**content["data"][0])


def test_there_are_seven():
    assert {path.stem for path in SEVEN.glob("*.toml")} == set(LABELS)


@pytest.mark.parametrize("recipe", OF_FILES)
def test_tables_of_files(recipe, tmp_path):
    table, (photo, mask, meanings) = table_of(recipe), OF_FILES[recipe]
    values = np.array([list(meanings)], np.uint8)
    trees.save(tmp_path / photo, trees.photo_of(values))
    trees.save(tmp_path / mask, values)
    table.folder = str(tmp_path)
    data_set = open_data(table, SEVEN)
    assert len(data_set) == 1 and len(data_set.labels) == LABELS[recipe]
    assert data_set.load(0).truth.tolist() == [list(meanings.values())]


@pytest.mark.parametrize("recipe", ["cityscapes", "ade20k"])
def test_tables_of_layouts(recipe, tmp_path):
    tree, table = trees.build(recipe, tmp_path), table_of(recipe)
    table.folder = str(tmp_path / tree.table.folder)
    data_set = open_data(table, SEVEN)
    assert len(data_set) == trees.PHOTOS and all(data_set.load(i) for i in range(trees.PHOTOS))


def test_coco_panoptic_has_words_for_its_categories():
    lines = (SEVEN / "labels" / "coco-panoptic.txt").read_text().splitlines()[1:]
    assert len(set(lines)) == len(lines) == LABELS["coco-panoptic"] == 80 + 53
    assert lines[79:81] == ["toothbrush", "banner"] and lines[-1] == "rug"
