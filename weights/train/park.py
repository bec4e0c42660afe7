"""Draws weights/demo/park.png, the picture of the main README: Noto's drawings on this project's backgrounds."""

import cv2
import numpy as np

from scenes import Glyphs, Scenes
from sources import DEMO
from textures import Bank

WIDTH, HEIGHT = 480, 320
HORIZON = 0.52
# noun, centre and longer side in shares of the width, from the back to the front.
DRAWN = [
    ("tree", 0.16, 0.34, 0.34),
    ("house", 0.50, 0.30, 0.22),
    ("tree", 0.86, 0.33, 0.30),
    ("car", 0.70, 0.50, 0.26),
    ("dog", 0.36, 0.53, 0.22),
]


def main():
    rng = np.random.default_rng(11)
    scenes = Scenes(12, styles=["noto"], side=WIDTH)
    bank = Bank(rng, WIDTH)
    image, thing = bank("sky").astype(np.float32), np.zeros((WIDTH, WIDTH), np.uint8)
    below = int(HORIZON * HEIGHT)
    image[below:] = bank("grass")[below:]
    scenes.rng.normal = lambda mean=0, spread=1, size=None: np.zeros(size) + mean  # upright, not stretched
    glyphs = Glyphs()
    for noun, x, y, size in DRAWN:
        rgba = glyphs.by_name[noun]["noto"][0 if noun != "dog" else 1]
        scenes.put(image, thing, 1, rgba, size * WIDTH, np.array([x, y]) * WIDTH)
    DEMO.mkdir(exist_ok=True)
    cv2.imwrite(str(DEMO / "park.png"), np.clip(image[:HEIGHT], 0, 255).astype(np.uint8)[..., ::-1])


if __name__ == "__main__":
    main()
