"""Drawn scenes that teach the demo model six words it never saw, and scenes to judge it by:

    python six_words.py OUT           # OUT/{train,new,old,…}/{images,masks} and lists of labels

`train`: scenes of all 39 nouns in the training styles, each with at least one of the six. `new`: scenes that no training has
seen, each with one of the six, in the drawings' own colours. `old`: the same without any of the six, to see what is lost. A
mask's value counts into labels.txt (`words of a label; its synonyms`); 255 is clutter without a name."""

import argparse
import multiprocessing
from pathlib import Path

import cv2

import scene_files
from scenes import Scenes
from sources import TEST_STYLES, TRAINING_STYLES
from things import HELD_OUT_NAMES, NAMED, TRAINED, words_of

SEED = 4000
NAMES = [*NAMED, *HELD_OUT_NAMES]
PART = 250
"""Scenes that share a seed."""


def draw(job):
    folder, kind, number, count = job
    cv2.setNumThreads(1)
    learned = kind == "train"
    styles = TEST_STYLES if kind.endswith("twemoji") else TRAINING_STYLES
    nouns = TRAINED if kind.startswith("old") else [*TRAINED, *HELD_OUT_NAMES]
    seed = [SEED, KINDS.index(kind), number]
    scenes = Scenes(seed, styles, nouns, one_style=0.3 if learned else 1, restyled=0.85 if learned else 0)
    for i in range(count):
        must = [] if kind.startswith("old") else [HELD_OUT_NAMES[scenes.rng.integers(len(HELD_OUT_NAMES))]]
        image, thing, names = scenes.scene(must)
        name = f"{number * PART + i:05}.png"
        scene_files.save(folder / kind / "images" / name, image[..., ::-1])
        scene_files.save(folder / kind / "masks" / name, scene_files.mask_of(thing, names, NAMES))


KINDS = ["train", "new", "old", "new-twemoji", "old-twemoji"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=6000, help="scenes to learn from [6000]")
    parser.add_argument("--judge", type=int, default=300, help="scenes of each kind to judge by [300]")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.out.exists() and any(arguments.out.iterdir()):
        raise SystemExit(f"{arguments.out} is not empty")
    jobs = []
    for kind in KINDS:
        for part in ("images", "masks"):
            (arguments.out / kind / part).mkdir(parents=True)
        count = arguments.train if kind == "train" else arguments.judge
        jobs += [(arguments.out, kind, i, min(PART, count - i * PART)) for i in range(-(-count // PART))]
    with multiprocessing.Pool(arguments.processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(draw, jobs), 1):
            print(f"{done} of {len(jobs)} parts", end="\r", flush=True)
    (arguments.out / "labels.txt").write_text("".join(f"{';'.join(words_of(n))}\n" for n in NAMES))
    for file, names in (("all.txt", NAMES), ("old.txt", NAMED)):
        (arguments.out / file).write_text("".join(f"{n}\n" for n in names))
    print(f"{arguments.out}: {arguments.train} scenes to learn from, {arguments.judge} of each of {len(KINDS) - 1} kinds to judge by")


if __name__ == "__main__":
    main()
