"""Scenes with their truth as folders that `lseg-fast eval --data folders` reads, for whoever measures masks:

    python scene_files.py OUT             # draws OUT/images/NNNN.png, OUT/masks/NNNN.png and OUT/labels.txt
    python scene_files.py OUT --check     # draws them again elsewhere: must be the same bytes

A mask's value counts into labels.txt; 255 is clutter without a name. No stage draws with these seeds, and Twemoji was
never trained on. With the pinned packages one machine makes the same bytes each time, whose first are those of fewer."""

import argparse
import hashlib
import tempfile
from pathlib import Path

import cv2
import numpy as np

from scenes import Scenes
from sources import TEST_STYLES, TRAINING_STYLES
from things import NAMED

SEED = 3000
"""Training's are 2026 (scenes), image.py's 77, evaluate.py's 1000."""

STYLES = {"twemoji": TEST_STYLES, "training": TRAINING_STYLES}
SCENES = 200
UNNAMED = 255


def mask_of(thing, names, listed=NAMED):
    """Indices into `listed` [h, w]."""
    return np.uint8([UNNAMED if name is None else listed.index(name) for name in names])[thing]


def write(folder, count, styles):
    """Drawings as their package has them, one style a scene, as evaluate.py shows them."""
    cv2.setNumThreads(1)
    drawn = Scenes([SEED, list(STYLES).index(styles)], STYLES[styles], one_style=1, restyled=0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image, thing, names = drawn.scene()
        save(folder / "images" / f"{i:04}.png", image[..., ::-1])
        save(folder / "masks" / f"{i:04}.png", mask_of(thing, names))
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in NAMED))


def save(path, pixels):
    if not cv2.imwrite(str(path), pixels):
        raise SystemExit(f"{path} cannot be written")


def contents(folder):
    """path within the folder -> bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def digest(found):
    return hashlib.sha256(b"".join(f"{name} {len(data)}\n".encode() + data for name, data in found.items())).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"how many [{SCENES}]")
    parser.add_argument("--styles", choices=STYLES, default="twemoji", help="whose drawings [twemoji]")
    parser.add_argument("--check", action="store_true", help="compare with what is there, write nothing")
    arguments = parser.parse_args()
    there = contents(arguments.out)
    if there and not arguments.check:
        raise SystemExit(f"{arguments.out} is not empty")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if arguments.check else arguments.out
        write(folder, arguments.scenes, arguments.styles)
        drawn = contents(folder)
    if arguments.check and drawn != there:
        differing = [name for name in sorted(drawn.keys() | there.keys()) if drawn.get(name) != there.get(name)]
        raise SystemExit(f"{len(differing)} files differ: {', '.join(differing[:10])}")
    print(f"{arguments.scenes} scenes, {len(NAMED)} labels, SHA-256 of all files {digest(drawn)}")


if __name__ == "__main__":
    main()
