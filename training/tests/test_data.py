"""Every layout is read as it was painted; what is not as it should be is refused with its name."""

import json
import pickle
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import trees
from lseg_train import classes, judge, lists, pictures
from lseg_train.data import IGNORED, OTHER, DataTable, open_data
from lseg_train.errors import Refused
from lseg_train.inspect_data import inspect

EPISODES = ("pascal-5i", "coco-20i", "fss-1000")
PADS = {"files": OTHER, "voc": 0, "pascal-5i": 0, "coco-20i": 0, "fss-1000": 0}


@pytest.fixture
def tree(request, tmp_path):
    return trees.build(request.param, tmp_path)


every_layout = pytest.mark.parametrize("tree", trees.BUILDERS, indirect=True)


def name(tree, data_set, i, sample):
    path = data_set.title(i).removeprefix(f"{tree.root}/")
    return f"{path}\t{sample.labels[1][0]}" if sample.episode else path


@every_layout
def test_samples_are_as_painted(tree):
    data_set = open_data(tree.table, tree.root)
    assert len(data_set) == len(tree.truths) and data_set.pad == PADS.get(tree.table.layout, IGNORED)
    seen = set()
    for i in range(len(data_set)):
        sample = data_set.load(i)
        truth = tree.truths[name(tree, data_set, i, sample)]
        seen.add(name(tree, data_set, i, sample))
        assert sample.truth.dtype == np.int16 and (sample.truth == truth).all()
        assert sample.photo.dtype == np.uint8 and sample.photo.shape == (*truth.shape, 3)
        assert sample.episode == (tree.table.layout in EPISODES)
        assert all(own in data_set.labels for own in sample.labels)
        if sample.episode:
            assert sample.labels[0] == ("others",) and len(sample.labels) == 2
        else:
            assert sample.labels == data_set.labels
    assert seen == set(tree.truths)


@every_layout
def test_photos_are_as_painted(tree):
    data_set = open_data(tree.table, tree.root)
    for i in range(len(data_set)):
        with Image.open(data_set.title(i)) as image:
            assert (data_set.load(i).photo == np.asarray(image.convert("RGB"))).all()


LABELS = {
    "files": [("wall", "brick wall"), ("tree",), ("car", "motor car", "auto")],
    "ade20k": [(f"thing {i}", f"its synonym {i + 1}") for i in range(12)],
    "cityscapes": [(word,) for _, word in classes.CITYSCAPES],
    "voc": [(word,) for word in classes.VOC],
    "coco-panoptic": [("person",), ("car",), ("sky-other-merged",)],
    "pascal-5i": [("others",), *((word,) for word in classes.VOC[1:6] + classes.VOC[11:])],
    "coco-20i": [("others",), ("person",), ("motorbike",), ("toothbrush",)],
    "fss-1000": [("others",), ("abacus",), ("taxi",)],
}


@every_layout
def test_labels_and_words(tree):
    data_set = open_data(tree.table, tree.root)
    own = LABELS[tree.table.layout]
    assert data_set.labels == own
    ending = [] if data_set.episodes else ["other"]
    assert data_set.words() == [word for words in own for word in words] + ending
    tree.table.synonyms = "first"
    assert open_data(tree.table, tree.root).words() == [words[0] for words in own] + ending


# ------------------------------------------------------------------------------------------------------ what is broken


def refusals(tree):
    """Everything that `check` would say."""
    try:
        data_set = open_data(tree.table, tree.root, absent_files="keep")
    except Refused as refused:
        return [str(refused)]
    return inspect([data_set], lambda _: None, lambda _: None).problems


def the_refusal(tree):
    with_others = refusals(tree)
    assert len(with_others) >= 1 and len(set(with_others)) == 1, with_others
    return with_others[0]


@every_layout
def test_whole_trees_have_no_problems(tree):
    assert refusals(tree) == []


@every_layout
def test_a_missing_mask_is_named(tree):
    tree.masks[3].unlink()
    assert str(tree.masks[3]) in the_refusal(tree)
    with pytest.raises(Refused, match=tree.masks[3].name):
        open_data(tree.table, tree.root)


@every_layout
def test_a_mask_of_another_size_is_named(tree):
    with Image.open(tree.masks[2]) as image:
        width, height = image.size
        image.crop((0, 0, width - 1, height)).save(tree.masks[2])
    said = the_refusal(tree)
    assert str(tree.masks[2]) in said and f"{width}×{height}" in said and f"{width - 1}×{height}" in said


COUNTS = {"files": 3, "ade20k": 12, "voc": 21, "coco-panoptic": 4}
"""Of labels, or of a photo's segments. Elsewhere every id means something."""


@pytest.mark.parametrize("tree", COUNTS, indirect=True)
def test_an_id_that_means_nothing_is_named(tree):
    with Image.open(tree.masks[1]) as image:
        pixels, palette = np.array(image), image.getpalette()
    value = tree.other_id
    pixels[5, 5:8] = (value % 256, value // 256, 0) if pixels.ndim == 3 else value
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette(palette)
    image.save(tree.masks[1])
    said = the_refusal(tree)
    assert said.startswith(f"{tree.masks[1]}: ") and f"id {value} in 3 pixels" in said
    assert f" {COUNTS[tree.table.layout]} " in said


@every_layout
@pytest.mark.parametrize("keep", [0.4, 0.7])
def test_a_truncated_mask_is_named(tree, keep):
    whole = tree.masks[0].read_bytes()
    tree.masks[0].write_bytes(whole[: int(len(whole) * keep)])
    assert str(tree.masks[0]) in the_refusal(tree)


@every_layout
def test_an_empty_folder_is_named(tree):
    shutil.rmtree(tree.photos)
    tree.photos.mkdir()
    said = refusals(tree)
    assert said and all(str(tree.photos) in line for line in said)


@every_layout
def test_the_same_words_twice_are_named(tree):
    own = LABELS[tree.table.layout]
    words = {"pascal-5i": classes.VOC[1:], "coco-20i": classes.COCO, "fss-1000": ["a", "b"]}.get(
        tree.table.layout, [words[0] for words in own]
    )
    words = list(words)
    words[1] = f"something; {words[0].upper()} "
    trees.write(tree.root / "twice.txt", "\n".join(words))
    tree.table.labels = "twice.txt"
    said = the_refusal(tree)
    assert "twice.txt" in said and repr(words[0].upper()) in said and "line 2" in said and "line 1" in said


@pytest.mark.parametrize("layout", ["cityscapes", "voc", "coco-panoptic", *EPISODES])
def test_labels_must_be_as_many(layout, tmp_path):
    tree = trees.build(layout, tmp_path)
    trees.write(tree.root / "few.txt", "only this\n")
    tree.table.labels = "few.txt"
    assert "few.txt" in the_refusal(tree) and "found 1" in the_refusal(tree)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"wall\n\ntree\n", "line 2"),
        (b"wall\ntree;;oak\n", "line 2"),
        (b"wall\nbaum\xff\n", "line 2"),
        (b"# nothing\n\n", "empty"),
        (b"", "empty"),
    ],
)
def test_label_files_that_are_none(content, expected, tmp_path):
    tree = trees.build("files", tmp_path)
    (tmp_path / "words.txt").write_bytes(content)
    assert "words.txt" in the_refusal(tree) and expected in the_refusal(tree)


@pytest.mark.parametrize(
    "content, expected",
    [
        ("7 wall\nseven tree\n", "line 2"),
        ("7 wall\n8 sofa\n", "'sofa'"),
        ("7 wall\n7 tree\n", "7 again"),
        ("70000 wall\n", "70000"),
        ("7wall\n", "7wall"),
        ("7\n", "line 1"),
    ],
)
def test_id_files_that_are_none(content, expected, tmp_path):
    tree = trees.build("files", tmp_path)
    trees.write(tmp_path / "ids.txt", content)
    assert "ids.txt" in the_refusal(tree) and expected in the_refusal(tree)


@pytest.mark.parametrize(
    "change, expected",
    [
        (dict(layout="ade"), "layout"),
        (dict(synonyms="all"), "synonyms"),
        (dict(weight=0.0), "weight"),
        (dict(weight=float("nan")), "weight"),
        (dict(images=None), "images"),
        (dict(mask=None), "mask"),
        (dict(mask=[["a"]]), "pairs"),
        (dict(mask=[["nowhere", "else"]]), "the photo of itself"),
        (dict(labels=None), "labels"),
        (dict(labels="none.txt"), "none.txt"),
        (dict(ignore=[7]), "'wall'"),
        (dict(ignore=[0], other=[0]), "both lists"),
        (dict(other=[70_000]), "70000"),
        (dict(first=1), "ids or first"),
        (dict(folder="nowhere"), "nowhere"),
        (dict(images="pictures/*.jpg"), "pictures/*.jpg"),
        (dict(fold=1), "files does not have"),
    ],
)
def test_tables_that_cannot_be(change, expected, tmp_path):
    tree = trees.build("files", tmp_path)
    for setting, value in change.items():
        setattr(tree.table, setting, value)
    assert expected in the_refusal(tree)


@pytest.mark.parametrize(
    "table, expected",
    [
        (dict(layout="voc"), "folder"),
        (dict(layout="voc", folder="."), "SegmentationClass"),
        (dict(layout="voc", folder=".", images="*.jpg"), "voc does not have"),
        (dict(layout="coco-panoptic", folder=".", ignore=[0]), "coco-panoptic does not have"),
        (dict(layout="cityscapes", folder=".", split="../up"), "split"),
        (dict(layout="cityscapes", folder="."), "leftImg8bit/train"),
        (dict(layout="ade20k", folder="."), "objectInfo150.txt"),
        (dict(layout="pascal-5i", folder=".", fold=4), "found 4"),
        (dict(layout="coco-20i", folder="."), "fold"),
        (dict(layout="fss-1000", folder=".", split="training"), "trn"),
        (dict(layout="fss-1000", folder="."), "splits/fss/trn.txt"),
    ],
)
def test_tables_without_what_they_need(table, expected, tmp_path):
    with pytest.raises(Refused) as refused:
        open_data(DataTable(**table), tmp_path)
    assert expected in str(refused.value)


def test_values_follow_first_where_there_are_no_ids(tmp_path):
    mask = np.array([[0, 1, 2, 3, 255]], np.uint8)
    trees.save(tmp_path / "a.jpg", trees.photo_of(mask))
    trees.save(tmp_path / "a.png", mask)
    trees.write(tmp_path / "words.txt", "x\ny\nz\n")
    table = DataTable(images="*.jpg", mask=[[".jpg", ".png"]], labels="words.txt", first=1, other=[0])
    data_set = open_data(table, tmp_path)
    assert data_set.load(0).truth.tolist() == [[OTHER, 0, 1, 2, IGNORED]] and data_set.pad == OTHER
    table.first, table.other = 0, [3]
    data_set = open_data(table, tmp_path)
    assert data_set.load(0).truth.tolist() == [[0, 1, 2, OTHER, IGNORED]] and data_set.pad == 0
    table.first, table.other, table.ignore = 1, None, [0]
    with pytest.raises(Refused, match="id 255 in 1 pixel"):
        open_data(table, tmp_path).load(0)


def test_a_layouts_ignored_value_may_be_other(tmp_path):
    tree = trees.build("ade20k", tmp_path)
    tree.table.other = [0]
    data_set = open_data(tree.table, tmp_path)
    assert data_set.pad == OTHER
    for i in range(len(data_set)):
        truth = tree.truths[data_set.title(i).removeprefix(f"{tmp_path}/")]
        assert (data_set.load(i).truth == np.where(truth == IGNORED, OTHER, truth)).all()


def test_lsegs_table_of_ade20k(tmp_path):
    """Its semicolons part a name's words; of two rows of one word both are the first's."""
    rows = [
        "1,0.1,1,1,1,wall",
        "2,0.1,1,1,1,screen;door;screen",
        "3,0.1,1,1,1,tree",
        "4,0.1,1,1,1,Screen;silver;screen",
    ]
    path = trees.write(tmp_path / "objectInfo150.txt", "Idx,Ratio,Train,Val,Stuff,Name\n" + "\n".join(rows) + "\n")
    assert lists.ade20k_table(path) == ([("wall",), ("screen",), ("tree",)], [0, 1, 2, 1])


def test_a_synonym_of_two_rows_stays_with_the_first(tmp_path):
    rows = [
        "1\t0.1\t1\t1\t1\tstairway, staircase, steps",
        "2\t0.1\t1\t1\t1\tescalator, moving staircase, staircase",
        "3\t0\t1\t1\t1\tsteps",
    ]
    path = trees.write(tmp_path / "objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "\n".join(rows) + "\n")
    assert lists.ade20k_table(path)[0] == [("stairway", "staircase"), ("escalator", "moving staircase"), ("steps",)]


def test_an_episodes_class_is_not_named_others(tmp_path):
    tree = trees.build("pascal-5i", tmp_path)
    trees.write(tmp_path / "words.txt", "\n".join([f"a{i}" for i in range(19)] + ["b;Others"]))
    tree.table.labels = "words.txt"
    assert "'Others'" in the_refusal(tree)


@pytest.mark.parametrize("layout, path, line", [
    ("pascal-5i", "p5i/splits/pascal/trn/fold0.txt", "2007_000000__06"),
    ("pascal-5i", "p5i/splits/pascal/trn/fold0.txt", "../../../secret__01"),
    ("voc", "pascal/VOC2012/ImageSets/Segmentation/train.txt", "../../secret"),
    ("voc", "pascal/VOC2012/ImageSets/Segmentation/train.txt", "/etc/passwd"),
    ("fss-1000", "fss/splits/fss/trn.txt", "../.."),
])  # fmt: skip
def test_lists_that_lead_elsewhere(layout, path, line, tmp_path):
    tree = trees.build(layout, tmp_path)
    trees.write(tmp_path / path, line + "\n")
    assert path.rsplit("/", 1)[1] in the_refusal(tree) and line.removesuffix("__01") in the_refusal(tree)


class Evil:
    def __reduce__(self):
        return print, ("called",)


@pytest.mark.parametrize("content", [
    pickle.dumps(Evil()),
    pickle.dumps({0: [Evil()]}),
    pickle.dumps({0: "train2014/x.jpg"}),
    pickle.dumps({"0": []}),
    pickle.dumps([1]),
    pickle.dumps({0: ["train2014/x.jpg"]})[:-9],
    pickle.dumps({2: ["train2014/x.jpg"]}),  # a class that fold 2 tests
    pickle.dumps({0: ["../x.jpg"]}),
    pickle.dumps({}),
    b"",
    b"\x80\x03]q\x00h\x01.",
    b"\x80\x03(t.",
])  # fmt: skip
def test_pickles_are_read_as_data(content, tmp_path, capsys):
    tree = trees.build("coco-20i", tmp_path)
    (tmp_path / "c20i/splits/coco/trn/fold2.pkl").write_bytes(content)
    said = the_refusal(tree)
    assert "fold2.pkl" in said and (b"builtins" not in content or "not executed" in said)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_lists(protocol, tmp_path):
    content = {0: ["a", "b", "a"], 300: [], 70_000: ["é"]}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol))
    assert lists.pickled_lists(tmp_path / "x.pkl") == content


def panoptic(photo="x", photo_id=1, **segment):
    return json.dumps(
        {
            "images": [{"id": photo_id, "file_name": photo}],
            "categories": [{"id": 1, "name": "a"}],
            "annotations": [{"image_id": 1, "file_name": "x.png", "segments_info": [segment] if segment else []}],
        }
    )


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"images": [], "annotations": [], "categories": []}',
        panoptic(photo="../x"),
        panoptic(photo=7),
        panoptic(photo_id=2),
        panoptic(id=99_999_999_999, category_id=1),
        panoptic(id=9, category_id=2),
        panoptic(id=9),
    ],
)
def test_panoptic_files_that_are_none(content, tmp_path):
    tree = trees.build("coco-panoptic", tmp_path)
    trees.write(tmp_path / "coco/annotations/panoptic_train2017.json", content)
    assert "panoptic_train2017.json" in the_refusal(tree)


# ------------------------------------------------------------------------------------------------------------ pictures


def png(width, height, bits, colour, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_values_of_any_depth(bits, tmp_path):
    values = np.random.default_rng(bits).integers(0, 1 << bits, (5, 16))
    packed = ["".join(f"{v:0{bits}b}" for v in row) for row in values]
    rows = b"".join(b"\0" + int(row, 2).to_bytes(len(row) // 8, "big") for row in packed)
    (tmp_path / "m.png").write_bytes(png(16, 5, bits, 0, rows))
    assert (pictures.ids(tmp_path / "m.png") == values).all()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("read", [pictures.photo, pictures.ids, pictures.bright, pictures.panoptic_ids])
def test_pictures_that_are_none(read, tmp_path):
    files = {
        "empty.png": b"",
        "text.png": b"not a picture at all",
        "huge.png": png(30_000, 30_000, 8, 0, b""),  # Pillow raises
        "large.png": png(10_000, 9_000, 8, 0, b""),  # Pillow warns
        "nothing.png": png(0, 5, 8, 0, b""),
        "short.png": png(50, 50, 8, 0, b"\0" * 1050),  # rows end in the midst
    }
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
        with pytest.raises(Refused, match=file) as refused:
            read(tmp_path / file)
        assert ("at most 89478485 pixels" in str(refused.value)) == (file == "large.png")
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(Refused, match=path.name):
            read(path)


def test_masks_are_ids_and_no_colours(tmp_path):
    trees.save(tmp_path / "rgb.png", np.zeros((4, 4, 3), np.uint8))
    trees.save(tmp_path / "jpeg.jpg", np.zeros((4, 4), np.uint8))
    for file in ("rgb.png", "jpeg.jpg"):
        with pytest.raises(Refused, match=file):
            pictures.ids(tmp_path / file)


def test_photos_are_upright(tmp_path):
    upright = trees.photo_of(trees.painted(np.random.default_rng(0), [1, 2, 3]))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter; the viewer turns it clockwise
    trees.save(tmp_path / "p.png", np.rot90(upright).copy(), exif=exif)
    assert (pictures.photo(tmp_path / "p.png") == upright).all()


def test_what_is_transparent_is_white(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., 0], rgba[0, 0, 3], rgba[0, 1, 3] = 200, 255, 0
    trees.save(tmp_path / "rgba.png", rgba)
    assert pictures.photo(tmp_path / "rgba.png").tolist() == [[[200, 0, 0], [255] * 3], [[255] * 3] * 2]
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.putdata([0, 1])
    indexed.save(tmp_path / "p.png", transparency=1)
    assert pictures.photo(tmp_path / "p.png").tolist() == [[[10, 20, 30], [255] * 3]]


def test_grey_photos_of_16_bits(tmp_path):
    trees.save(tmp_path / "g.png", np.array([[0, 255, 256, 65535]], np.uint16))
    assert pictures.photo(tmp_path / "g.png")[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("words, place", [("wall\nother\n", 1), ("wall\n", 1), ("other\nwall\n", 0)])
def test_masks_for_eval_have_other_once(tmp_path, words, place):
    """Ids that mean "other" are that label's where the list has one, else the last one's."""
    (tmp_path / "words.txt").write_text(words)
    values = np.array([[0, 7, 255]], np.uint8)
    trees.save(tmp_path / "photos" / "a.png", trees.photo_of(values))
    trees.save(tmp_path / "masks" / "a.png", values)
    table = DataTable(images="photos/*.png", mask=[["photos", "masks"]], labels="words.txt", other=[7])
    (tmp_path / "eval").mkdir()
    labels = judge.written_for_eval(open_data(table, tmp_path), tmp_path / "eval")
    assert labels[place] == "other" and labels.count("other") == 1
    assert (tmp_path / "eval/labels.txt").read_text() == "".join(f'"{label}"\n' for label in labels)
    with Image.open(tmp_path / "eval/masks/000000.png") as mask:
        assert np.asarray(mask).tolist() == [[0, place, judge.UNLABELLED]]
