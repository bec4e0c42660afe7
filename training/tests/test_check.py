"""What `check` tells: counts as painted, every problem, and a sheet to look at."""

import shutil

import numpy as np
import pytest
from PIL import Image

import trees
from lseg_train import inspect_data
from lseg_train.data import IGNORED, OTHER, open_data
from lseg_train.errors import Refused
from lseg_train.inspect_data import inspect
from lseg_train.sheet import colour, coloured, contact_sheet


def no_one(_):
    return None


@pytest.mark.parametrize("layout", trees.BUILDERS)
def test_counts_are_as_painted(layout, tmp_path):
    tree = trees.build(layout, tmp_path)
    data_set = open_data(tree.table, tmp_path)
    report = inspect([data_set], no_one, no_one)
    (found,) = report.sets
    assert report.problems == [] and found.photos == len(tree.truths) and found.failed == 0
    truths = list(tree.truths.values())
    assert found.ignored == sum((t == IGNORED).sum() for t in truths)
    assert found.other == sum((t == OTHER).sum() for t in truths)
    expected = dict.fromkeys((own[0] for own in data_set.labels), 0)
    for name, truth in tree.truths.items():
        for i, own in enumerate(["others", name.split("\t")[1]] if "\t" in name else expected):
            expected[own] += int((truth == i).sum())
    assert found.pixels == expected
    assert found.never() == [name for name, count in expected.items() if not count]
    areas = [t.size for t in truths]
    assert found.smallest[0] * found.smallest[1] == min(areas) and found.largest[0] * found.largest[1] == max(areas)
    text = "\n".join(report.lines())
    assert f"{len(truths)} photos" in text and all(name in text for name in expected)


def test_every_problem_is_a_line(tmp_path):
    one, two = trees.build("ade20k", tmp_path), trees.build("voc", tmp_path)
    one.masks[0].unlink()
    two.masks[1].write_bytes(b"no png")
    with Image.open(one.masks[4]) as image:
        image.resize((5, 5)).save(one.masks[4])
    sets = [open_data(tree.table, tmp_path, absent_files="keep") for tree in (one, two)]
    report = inspect(sets, lambda word: "too long" if word in ("cat", "thing 3") else None, no_one)
    lines = list(report.lines())
    for path in (one.masks[0], one.masks[4], two.masks[1]):
        assert sum(line.startswith(f"{path}: expected ") and ", found " in line for line in lines) == 1
    for word in ("cat", "thing 3"):
        assert sum(repr(word) in line and "too long" in line for line in lines) == 1
    assert (
        len(report.problems) == 5
        and [s.failed for s in report.sets] == [2, 1]
        and [s.photos for s in report.sets] == [6, 7]
    )


def test_nothing_readable_is_still_a_report(tmp_path):
    tree = trees.build("voc", tmp_path)
    for mask in tree.masks:
        mask.write_bytes(b"")
    report = inspect([open_data(tree.table, tmp_path)], no_one, no_one)
    assert len(report.problems) == trees.PHOTOS and report.sets[0].photos == 0 and list(report.lines())


def test_long_work_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(inspect_data, "SAID_EVERY", -1.0)
    said = []
    inspect([open_data(trees.build("voc", tmp_path).table, tmp_path)], no_one, said.append)
    assert len(said) == trees.PHOTOS and "3 of 8" in said[3]


def test_missing_files_are_told_at_once(tmp_path):
    tree = trees.build("ade20k", tmp_path)
    for mask in tree.masks[1:]:
        mask.unlink()
    with pytest.raises(Refused) as refused:
        open_data(tree.table, tmp_path)
    lines = str(refused.value).splitlines()
    assert len(lines) == 6 and str(tree.masks[1]) in lines[0] and lines[5] == "and 2 more"


def test_names_of_files_stay_on_their_line(tmp_path):
    tree = trees.build("files", tmp_path)
    for folder, ending in (("photos", "jpg"), ("masks", "png")):
        shutil.copy(tmp_path / folder / f"0.{ending}", tmp_path / folder / f"evil\n\x1b[2Jname.{ending}")
    (tmp_path / "masks" / "evil\n\x1b[2Jname.png").write_bytes(b"")
    (said,) = inspect([open_data(tree.table, tmp_path)], no_one, no_one).problems
    assert said.isprintable() and "evil" in said


# --------------------------------------------------------------------------------------------------------------- sheet


def test_the_sheet_shows_photos_masks_and_words(tmp_path):
    sets = [
        open_data(trees.build(layout, tmp_path / layout).table, tmp_path / layout)
        for layout in ("files", "voc", "fss-1000")
    ]
    contact_sheet(sets, tmp_path / "one.png", 5)
    contact_sheet(sets, tmp_path / "two.png", 5)
    contact_sheet(sets, tmp_path / "three.png", 6)
    one, two, three = ((tmp_path / f"{n}.png").read_bytes() for n in ("one", "two", "three"))
    assert one == two != three
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG"
        pixels = np.asarray(image)
    there = set(map(tuple, pixels.reshape(-1, 3).tolist()))
    assert {colour(i) for i in (0, 1, 2, 15, 20, IGNORED, OTHER)} <= there
    assert not list(tmp_path.glob("*.part"))


def test_few_samples_make_a_small_sheet(tmp_path):
    tree = trees.build("voc", tmp_path)
    data_set = open_data(tree.table, tmp_path)
    data_set.items = data_set.items[:3]
    contact_sheet([data_set], tmp_path / "s.png", 0)
    data_set.items = []
    with pytest.raises(Refused, match="none.png"):
        contact_sheet([data_set], tmp_path / "none.png", 0)


def test_a_sheet_is_whole_or_not_there(tmp_path):
    tree = trees.build("voc", tmp_path)
    data_set = open_data(tree.table, tmp_path)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(Refused, match="folder.png"):
        contact_sheet([data_set], tmp_path / "folder.png", 0)
    with pytest.raises(Refused, match="sheet.png"):
        contact_sheet([data_set], tmp_path / "nowhere" / "sheet.png", 0)
    tree.masks[0].write_bytes(b"")
    with pytest.raises(Refused, match=tree.masks[0].name):
        contact_sheet([data_set], tmp_path / "sheet.png", 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.png", "pascal"]


def test_an_earlier_sheet_stays_where_a_new_one_fails(tmp_path, monkeypatch):
    data_set = open_data(trees.build("voc", tmp_path).table, tmp_path)
    contact_sheet([data_set], tmp_path / "sheet.png", 0)
    earlier, save = (tmp_path / "sheet.png").read_bytes(), Image.Image.save

    def full(image, path, **options):
        save(image, path, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(Refused, match="No space left"):
        contact_sheet([data_set], tmp_path / "sheet.png", 1)
    monkeypatch.setattr(Image.Image, "save", save)
    monkeypatch.setattr("os.replace", lambda *_: full(Image.new("L", (1, 1)), tmp_path / "elsewhere.png"))
    with pytest.raises(Refused, match="No space left"):
        contact_sheet([data_set], tmp_path / "sheet.png", 1)
    assert (tmp_path / "sheet.png").read_bytes() == earlier and not list(tmp_path.glob("*.part"))


def test_long_legends_and_strange_words_are_cut(tmp_path):
    labels = "\n".join(f"слово {i} 言葉 {'very ' * 30}long {i}" for i in range(60))
    trees.write(tmp_path / "words.txt", labels)
    trees.save(tmp_path / "a.jpg", np.zeros((60, 60, 3), np.uint8))
    trees.save(tmp_path / "a.png", np.arange(60, dtype=np.uint8)[:, None].repeat(60, 1))
    table = trees.DataTable(images="*.jpg", mask=[["jpg", "png"]], labels="words.txt")
    contact_sheet([open_data(table, tmp_path)], tmp_path / "sheet.out", 0)
    assert (tmp_path / "sheet.out").is_file()


def test_every_label_has_its_colour():
    truth = np.arange(-2, 1000, dtype=np.int16)[None]
    colours, indices = coloured(truth)
    assert len(set(map(tuple, colours[0].tolist()))) == 1002
    assert sorted(indices) == list(range(-2, 1000))
    assert coloured(np.array([[3, 3, 1]], np.int16))[1] == [3, 1]
