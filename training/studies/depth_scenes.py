"""The study's pictures: drawn once by weights/train (its glyphs stage has run), kept in one file.

Labels are the twelve backgrounds and "thing" for any noun. A noun alone has one pixel in a hundred, too few to be
learned in half a minute. Clutter without a name is ignored."""

import sys
from pathlib import Path

import numpy as np

from lseg_train.errors import Refused

SIDE = 96
IGNORED = 255
DRAWING = Path(__file__).resolve().parents[2] / "weights" / "train"
PATH = DRAWING / "cache" / "depth-96.npz"
LABELS = ["sky", "night sky", "grass", "sand", "water", "snow", "road", "brick wall", "wall", "wood floor", "soil"]
LABELS += ["gravel", "thing"]
THING = LABELS.index("thing")


def answers(names):
    """A scene's names -> for each the index into LABELS, or IGNORED, u8 [names]."""
    return np.array([IGNORED if n is None else LABELS.index(n) if n in LABELS else THING for n in names], np.uint8)


def draw(count, seed):
    """Images u8 [count, 96, 96, 3] and labels u8 [count, 96, 96]."""
    sys.path.append(str(DRAWING))
    from scenes import Scenes

    scenes = Scenes(seed, side=SIDE)
    images, labels = np.zeros((count, SIDE, SIDE, 3), np.uint8), np.zeros((count, SIDE, SIDE), np.uint8)
    for i in range(count):
        images[i], thing, names = scenes.scene()
        labels[i] = answers(names)[thing]
    return images, labels


def make(path, train=2400, test=200):
    """Draws the file, unless it is there."""
    if path.exists():
        return
    if not (DRAWING / "cache" / "glyphs.npz").exists():
        raise Refused(f"{DRAWING / 'cache' / 'glyphs.npz'} is missing; run weights/train's glyphs stage first")
    images, labels = draw(train, [96, 0])
    test_images, test_labels = draw(test, [96, 1])
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, images=images, labels=labels, test_images=test_images, test_labels=test_labels)
    part.rename(path)
