"""`lseg-train export`: one of a run's files with everything that its users should know in its metadata, compared with
the program's own scores of it."""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import architecture, files
from .augment import fitted
from .begin import data_of
from .errors import Refused
from .judge import mask_scores, program_judgement, write_labels
from .network import ImageModel
from .words import Words

PHOTOS = 10
MOST_APART = 5e-4
"""Of the scores' range: what `lseg-fast`'s own tests allow against PyTorch."""


def export(config, source="best", to=None, half=True, say=print):
    """Writes the file, then checks it. `source`: "best", "last" or a path. -> path"""
    start = chosen(config.out, source)
    model = files.read_model(start)
    if model.config["head_block"].get("tied") is False:
        raise Refused(
            f"{start}: its head block has a kernel for each time, which the program does not run; train it with "
            "tied = true"
        )
    training, validation = data_of(config)
    to = Path(to) if to else config.out / f"{config.path.stem}.safetensors"
    files.write_model(
        to, model.config, files.image_tensors(model.image, half), model.text, metadata(config, model, training)
    )
    say(f"{to}: {to.stat().st_size} bytes, from {start.name}")
    program = files.program(config.file.program)
    if program is None:
        say('not compared with the program: there is no lseg-fast in PATH (set program = "…")')
        return to
    worst = compared(program, to, config, validation or training)
    say(
        f"scores of {PHOTOS} photos: at most {worst:.1e} of their range apart from the program's (allowed: "
        f"{MOST_APART:.0e})"
    )
    if not worst <= MOST_APART:
        raise Refused(
            f"{to}: the program's scores are {worst:.1e} of their range apart from PyTorch's, at most {MOST_APART:.0e} "
            "is expected"
        )
    for answer in program_judgement(program, to, validation, config.file.run.size or config.recipe.crop):
        say(
            f"{answer['data']}: lseg-fast eval says mIoU {answer['mean_iou']:.4f}, "
            f"pixels {answer['pixel_accuracy']:.4f}"
        )
    return to


def chosen(folder, source):
    if source == "last":
        path = folder / "last.safetensors"
    elif source == "best":
        found = sorted(folder.glob("best-*.safetensors"), key=lambda p: p.name, reverse=True)
        path = found[0] if found else folder / "last.safetensors"
    else:
        path = Path(source)
    if not path.exists():
        raise Refused(f"{path} is not there; `lseg-train fit` writes it")
    return path


def metadata(config, model, training):
    """Who trained it, on what, for which words."""
    words = sorted({word for data in training for word in data.words()})
    sets = [{"name": d.name, "photos": len(d), "labels": len(d.labels), "weight": d.weight} for d in training]
    recipe = config.identity()["train"]
    before = model.metadata.get("lseg-fast.training", "")
    said = f"Fine-tuned with lseg-train, recipe {config.file.recipe}, on {', '.join(s['name'] for s in sets)}."
    told = {
        "lseg-fast.training": f"{said} Before that: {before}" if before else said,
        "lseg-fast.words": json.dumps(words, ensure_ascii=False),
        "lseg-fast.data": json.dumps(sets, ensure_ascii=False),
        "lseg-fast.recipe": json.dumps(recipe),
        "lseg-fast.licences": "; ".join(
            filter(None, [config.file.licence, model.metadata.get("lseg-fast.licences", "")])
        ),
    }
    limits = model.metadata.get("lseg-fast.limits", "")
    told["lseg-fast.limits"] = limits and f"Of the model that it began with: {limits}"
    kept = {k: v for k, v in model.metadata.items() if k in ("lseg-fast.step", "lseg-fast.validation")}
    return {k: v for k, v in (told | kept).items() if v}


def compared(program, path, config, data_sets):
    """Largest difference of scores between torch and the program, in parts of the scores' range, over ten photos of the
    network's own size."""
    file = files.read_model(path)
    model = ImageModel(file.config).eval()
    files.load_image(model, file.image, path)
    words = Words(file.config["text"], file.config["embed_dim"], file.text)
    size, worst = config.file.run.size or config.recipe.crop, 0.0
    for number, (data, item) in enumerate(some(data_sets, PHOTOS)):
        sample = data.load(item)
        names = [w[0] for w in sample.labels]
        photo = fitted(sample.photo, size, architecture.step(file.config))
        with torch.inference_mode():
            wanted = mask_scores(
                model, file.config, words, photo, names, max(photo.shape[:2]), torch.device("cpu")
            ).numpy()
        got = program_scores(program, path, photo, names, number)
        worst = max(worst, float(np.abs(got - wanted).max() / max(1e-9, wanted.max() - wanted.min())))
    return worst


def some(data_sets, count):
    """Photos from all sets in turn."""
    turns = [(d, i) for i in range(count) for d in data_sets if i < len(d)]
    return turns[:count]


def program_scores(program, path, photo, names, number):
    """What `lseg-fast run --save scores` writes of a photo that needs no resizing -> [labels, h, w]."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        Image.fromarray(photo).save(folder / f"{number}.png")
        write_labels(folder / "labels.txt", names)
        call = [program, "run", folder / f"{number}.png", "--labels", f"@{folder / 'labels.txt'}", "--model", path]
        call += ["--size", "native", "--save", "scores", "--out", folder, "--device", "cpu", "--quiet"]
        done = subprocess.run([str(c) for c in call], capture_output=True, text=True)
        if done.returncode:
            raise Refused(f"the program cannot run {path}: {done.stderr.strip()}")
        return np.load(folder / f"{number}.scores.npy")
