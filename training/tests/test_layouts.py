"""Every layout through the command: `check`, five steps of `fit`, and what is broken by its name."""

import dataclasses
import json

import numpy as np
import pytest
import trees
from conftest import DEMO, SMALL, call
from PIL import Image


def toml(table):
    """A [[data]] table as it would be typed."""
    given = {k: v for k, v in dataclasses.asdict(table).items() if v is not None}
    return "[[data]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in given.items())


def written(folder, tables, train=""):
    path = folder / "c.toml"
    path.write_text(
        f'recipe = "finetune"\n[start]\ntext = "{DEMO}"\n[model]\n{SMALL["resnet"]}' + "".join(map(toml, tables)) +
        f"[train]\ncrop = 64\nbase = 80\nbatch = 8\nsteps = 5\n{train}"
        '[run]\nworkers = 2\nthreads = 1\ndevice = "cpu"\nlog_every = 1\n'
    )  # fmt: skip
    return path


def test_all_layouts_at_once(tmp_path):
    """Eight data sets in one run, each sample against its own words, photos read by two processes."""
    tables = [trees.build(layout, tmp_path).table for layout in trees.BUILDERS]
    path = written(tmp_path, tables, "negatives = 3\n")
    done = call("check", path)
    assert done.returncode == 0, done.stdout
    assert "fit may start" in done.stdout and (tmp_path / "run/samples.png").exists()
    assert done.stdout.count("photos\n") >= len(tables)
    done = call("fit", path)
    assert done.returncode == 0, done.stderr
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert len(losses) == 5 and all(0 < loss < 20 for loss in losses)


@pytest.mark.parametrize("layout", trees.BUILDERS)
def test_five_steps_of_each(layout, tmp_path):
    from lseg_train.config import read
    from lseg_train.fit import fit

    config = read(written(tmp_path, [trees.build(layout, tmp_path).table]))
    config = dataclasses.replace(
        config, file=dataclasses.replace(config.file, run=dataclasses.replace(config.file.run, workers=0))
    )
    assert fit(config) == 0
    assert (tmp_path / "run/last.safetensors").exists()


def test_check_names_everything_that_is_broken_at_once(tmp_path):
    tree = trees.build("files", tmp_path)
    missing, smaller, beyond, torn = tree.masks[:4]
    missing.unlink()
    with Image.open(smaller) as image:
        image.resize((8, 8)).save(smaller)
    trees.save(beyond, np.full_like(np.array(Image.open(beyond)), tree.other_id))
    torn.write_bytes(torn.read_bytes()[:60])
    path = written(tmp_path, [tree.table, dataclasses.replace(tree.table, name="none", images="nowhere/*.jpg")])
    path.write_text(path.read_text().replace("crop = 64", "crop = 50"))
    words = (tmp_path / "words.txt").read_text()
    (tmp_path / "words.txt").write_text(words.replace("brick wall", "brick " * 60))
    done = call("check", path)
    told = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and "7 problems" in done.stdout, done.stdout
    for part in (
        str(missing),
        str(smaller),
        f"{beyond}: expected ids",
        str(torn),
        "nowhere",
        "train.crop is 50",
        "word 'brick brick",
    ):
        assert sum(part in line for line in told) == 1, (part, told)
    (tmp_path / "words.txt").write_text(words.rstrip() + "\nTree\n")
    assert "'Tree'" in call("check", path).stdout
    assert call("fit", path).returncode == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_photo_that_cannot_be_read_ends_a_run_in_one_line(tmp_path, workers):
    tree = trees.build("files", tmp_path)
    for mask in tree.masks:
        mask.write_bytes(mask.read_bytes()[:60])
    path = written(tmp_path, [tree.table])
    path.write_text(path.read_text().replace("workers = 2", f"workers = {workers}"))
    done = call("fit", path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"error: {tmp_path}/masks/")
