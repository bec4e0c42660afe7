"""Eight painted scenes with their masks, five labels, sizes that differ."""

import numpy as np
from PIL import Image

LABELS = ["dog; puppy", "cat", "sky", "car; automobile", "tree"]
SIZES = [(64, 64), (64, 96), (96, 64), (80, 80)]


def painted(folder, photos=8, seed=0, sizes=SIZES, grid=1):
    """`grid`: corners lie on multiples of this."""
    rng = np.random.default_rng(seed)
    for kind in ("photos", "masks"):
        (folder / kind).mkdir(parents=True)
    colours = rng.integers(0, 255, (len(LABELS), 3))
    for i in range(photos):
        height, width = sizes[i % len(sizes)]
        mask = np.full((height, width), i % len(LABELS), np.uint8)
        for _ in range(2):
            y, x = (grid * rng.integers(0, (side - 32) // grid) for side in (height, width))
            mask[y : y + 32, x : x + 32] = rng.integers(0, len(LABELS))
        photo = colours[mask] + rng.integers(-8, 9, (height, width, 3))
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(folder / "photos" / f"{i}.png")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    return folder
