"""Validation: mIoU of the model as it stands, in torch; and the program's own judgement of an exported file."""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from . import architecture
from .augment import fitted
from .data import IGNORED, OTHER, OTHER_WORD
from .errors import Refused
from .loss import normalised
from .network import upsample


class Tally:
    """Pixels by what is true and what is said, over a data set; labels by name. "other" is a label like any."""

    def __init__(self):
        self.both, self.true, self.said = {}, {}, {}

    def add(self, names, truth, mask):
        """`truth`, `mask`: indices into `names`, -1 in `truth` counts nowhere."""
        counted = truth >= 0
        true, said = truth[counted], mask[counted]
        for into, found in ((self.true, true), (self.said, said), (self.both, true[true == said])):
            counts = np.bincount(found, minlength=len(names))
            for i in np.nonzero(counts)[0]:
                into[names[i]] = into.get(names[i], 0) + int(counts[i])

    def numbers(self):
        return [self.both, self.true, self.said]

    def add_numbers(self, numbers):
        for into, more in zip(self.numbers(), numbers):
            for name, count in more.items():
                into[name] = into.get(name, 0) + count

    def ious(self):
        """Of labels that are true or said somewhere."""
        names = self.true.keys() | self.said.keys()
        return {
            n: self.both.get(n, 0) / (self.true.get(n, 0) + self.said.get(n, 0) - self.both.get(n, 0))
            for n in sorted(names)
        }

    def mean_iou(self):
        ious = self.ious()
        return sum(ious.values()) / len(ious) if ious else 0.0

    def accuracy(self):
        return sum(self.both.values()) / max(1, sum(self.true.values()))

    def dead(self):
        """Labels that are there and never said."""
        return sorted(n for n in self.true if not self.said.get(n))


def label_names(sample):
    """Names of a sample's labels, with "other" behind them where pixels are to have it."""
    names = [words[0] for words in sample.labels]
    return [*names, OTHER_WORD] if (sample.truth == OTHER).any() and OTHER_WORD not in names else names


def truth_of(sample, names):
    """int64 [h, w]: indices into `names`, -1 where nothing counts."""
    truth = sample.truth.astype(np.int64)
    if OTHER_WORD in names:
        truth[truth == OTHER] = names.index(OTHER_WORD)
    truth[truth < 0] = IGNORED
    return truth


@torch.inference_mode()
def mask_scores(model, config, words, photo, names, size, device):
    """As the program takes a photo: its longer side `size`, scores resized to the photo -> [labels, h, w]."""
    small = fitted(photo, size, architecture.step(config))
    x = normalised(torch.tensor(small, device=device)[None], config)
    scores = upsample(model.scores(model(x), words(names)[None].to(device)))
    return F.interpolate(scores, photo.shape[:2], mode="bilinear", align_corners=False)[0]


def validate(model, config, words, data_sets, size, ranks):
    """-> Tally over all photos, which the processes share out."""
    model.eval()
    tally, number = Tally(), 0
    for data in data_sets:
        for item in range(len(data)):
            number += 1
            if number % ranks.count != ranks.rank:
                continue
            sample = data.load(item)
            names = label_names(sample)
            scores = mask_scores(model, config, words, sample.photo, names, size, ranks.device)
            tally.add(names, truth_of(sample, names), scores.argmax(0).cpu().numpy())
    return shared(tally, ranks)


def shared(tally, ranks):
    if ranks.count == 1:
        return tally
    everyone = [None] * ranks.count
    torch.distributed.all_gather_object(everyone, tally.numbers())
    whole = Tally()
    for numbers in everyone:
        whole.add_numbers(numbers)
    return whole


# --------------------------------------------------------------------------------------------------------- the program


def program_judgement(program, model_file, data_sets, size):
    """`lseg-fast eval` on the same photos -> its JSON object for each data set that has one list of labels."""
    found = []
    for data in data_sets:
        if data.episodes:
            continue  # episodes: each photo has words of its own
        with tempfile.TemporaryDirectory() as folder:
            names = written_for_eval(data, Path(folder))
            call = [program, "eval", "--data", "folders", "--images", f"{folder}/images", "--masks", f"{folder}/masks"]
            call += ["--labels", f"@{folder}/labels.txt", "--ignore", str(UNLABELLED), "--model", str(model_file)]
            call += ["--size", f"long:{size}", "--json", "--quiet"]
            done = subprocess.run(call, capture_output=True, text=True)
            if done.returncode:
                raise Refused(f"lseg-fast eval cannot judge {model_file}: {done.stderr.strip()}")
            found.append({"data": data.name, "labels": len(names), **json.loads(done.stdout)})
    return found


UNLABELLED = 65535


def written_for_eval(data, folder):
    """Photos as links, masks as indices into labels.txt -> the labels."""
    names = [words[0] for words in data.labels]
    every = names if OTHER_WORD in names else [*names, OTHER_WORD]
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    other = False
    for item in range(len(data)):
        sample = data.load(item)
        other |= bool((sample.truth == OTHER).any())
        truth = truth_of(sample, every)
        truth[truth < 0] = UNLABELLED
        photo = Path(data.title(item))
        (folder / "images" / f"{item:06}{photo.suffix}").symlink_to(photo.resolve())
        Image.fromarray(truth.astype(np.uint16)).save(folder / "masks" / f"{item:06}.png")
    labels = every if other else names
    write_labels(folder / "labels.txt", labels)
    return labels


def write_labels(path, labels):
    """A label file of the program's; a line in quotes is one label whatever is in it."""
    lines = ['"' + label.replace('"', '""') + '"\n' for label in labels]
    path.write_text("".join(lines), encoding="utf-8")
