"""CONFIG.toml: what is wrong is told with its line."""

import pytest
from conftest import REPOSITORY

from lseg_train.config import read
from lseg_train.errors import Refused

GOOD = """recipe = "finetune"
out = "run"

[model]
width = 64

[model.head_block]
kind = "depthwise"
depth = 4

[[data]]
images = "a/*.png"

[[data]]
images = "b/*.png"
weight = 2

[train]
rate = 1
"""


def found(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text)
    return read(path)


def test_a_good_one(tmp_path):
    config = found(tmp_path, GOOD)
    assert config.recipe.rate == 1.0 and config.file.model.head_block.depth == 4
    assert [d.weight for d in config.file.data] == [1.0, 2.0] and config.out == tmp_path / "run"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("width = 64", "widht = 64", "line 5: model.widht is not known; known are .*width"),
        ("width = 64", 'width = "64"', "line 5: model.width is '64', a whole number is expected"),
        ("depth = 4", "depth = true", "line 9: model.head_block.depth is True, a whole number"),
        ("weight = 2", "wieght = 2", "line 16: data.wieght is not known"),
        ('images = "b/*.png"', "images = 3", "line 15: data.images is 3, a text"),
        ("rate = 1", "rate = [1]", "line 19: train.rate is \\[1\\], a number"),
        ("rate = 1", "lr = 1", "line 19: train.lr is not known"),
        ('out = "run"', "output = 1", "line 2: output is not known"),
        ("[model]", "[modell]", "line 4: modell is not known"),
        ('[[data]]\nimages = "a/*.png"\n', '[data]\nimages = "a/*.png"\n[data2]\n', "data is expected as tables"),
        ("width = 64", "width = ", "is no TOML.*line 5"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, old, new, why):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if "data2" in new:
        text = text.replace('\n[[data]]\nimages = "b/*.png"\nweight = 2\n', "")
    with pytest.raises(Refused, match=why):
        found(tmp_path, text)


def test_files_that_are_no_configuration(tmp_path):
    for text, why in (("", r"has no \[\[data\]\]"), ("\udcff", "cannot be read")):
        path = tmp_path / "c.toml"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(Refused, match=why):
            read(path)
    with pytest.raises(Refused, match="cannot be read"):
        read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "run", ["minutes = -1", "workers = -2", "log_every = 0", 'device = "gpu"', "threads = -1", "size = -5"]
)
def test_numbers_of_a_run_that_cannot_be(tmp_path, run):
    with pytest.raises(Refused, match=f"run.{run.split(' ')[0]} is .* expected"):
        found(tmp_path, f"{GOOD}\n[run]\n{run}\n")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "training/recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_the_recipes_that_come_along_are_read(path):
    config = read(path)
    assert (
        config.file.recipe in ("finetune", "published", "zero-shot") and config.recipe.epochs + config.recipe.steps > 0
    )
