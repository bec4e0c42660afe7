"""Draws weights/demo/park.png, the picture of the main README: Noto's drawings on this project's backgrounds."""

import cv2
import numpy as np

from scenes import Glyphs
from sources import DEMO
from textures import Bank

WIDTH, HEIGHT = 480, 320
HORIZON = 0.52
SEED = 11
# noun, which of its drawings, centre and longer side in shares of the width; from the back to the front.
DRAWN = [
    ("tree", 0, 0.16, 0.34, 0.34),
    ("house", 0, 0.50, 0.30, 0.22),
    ("tree", 0, 0.87, 0.33, 0.28),
    ("car", 0, 0.70, 0.50, 0.25),
    ("dog", 1, 0.37, 0.53, 0.22),
]


def main():
    bank, glyphs = Bank(np.random.default_rng(SEED), WIDTH), Glyphs()
    image, below = bank("sky"), int(HORIZON * HEIGHT)
    image[below:] = bank("grass")[below:]
    for noun, which, x, y, size in DRAWN:
        rgba = glyphs.by_name[noun]["noto"][which]
        scale = size * WIDTH / max(rgba.shape)
        rgba = cv2.resize(
            rgba, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        )
        height, width = rgba.shape[:2]
        top, left = int(y * WIDTH - height / 2), int(x * WIDTH - width / 2)
        there = image[top : top + height, left : left + width]
        there[:] = there * (1 - rgba[..., 3:] / 255) + rgba[..., :3]
    DEMO.mkdir(exist_ok=True)
    cv2.imwrite(str(DEMO / "park.png"), np.clip(image[:HEIGHT], 0, 255).astype(np.uint8)[..., ::-1])


if __name__ == "__main__":
    main()
