"""Draws weights/demo/gallery.png: scenes of a style that was never trained on beside what the product makes of them. Of the
stored Twemoji scenes the first four, then the two with the most wrong pixels of those left: the failures."""

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np

import export
from evaluate import BINARY, Product
from sources import DEMO

WELL, FAILURES = 4, 2
GAP = 8


def labels_of(asked):
    return [*asked["present"], "other"]


def wrong(product, asked):
    """Share of the pixels that get another label than theirs, all names that are there offered."""
    folder = DEMO / "scenes"
    labels = labels_of(asked)
    found = product.mask(cv2.imread(str(folder / f"{asked['scene']}.png"))[..., ::-1], labels)
    thing = cv2.imread(str(folder / f"{asked['scene']}.truth.png"), cv2.IMREAD_UNCHANGED)
    truth = np.array([labels.index(n if n is not None else "other") for n in asked["names"]])[thing]
    return (found != truth).mean()


def pair(product, asked):
    """The scene and its overlay with the legend, side by side."""
    path = DEMO / "scenes" / f"{asked['scene']}.png"
    with tempfile.TemporaryDirectory() as folder:
        product.run(path, labels_of(asked), "overlay", Path(folder))
        overlay = cv2.imread(str(Path(folder) / f"{asked['scene']}.overlay.png"))
    scene = cv2.imread(str(path))
    return np.hstack([scene, np.full((len(scene), GAP, 3), 255, np.uint8), overlay[: len(scene)]])


def main():
    product = Product(BINARY, export.PATH)
    scenes = [s for s in json.loads((DEMO / "scenes" / "scenes.json").read_text()) if s["set"] == "Twemoji"]
    share = {s["scene"]: wrong(product, s) for s in scenes}
    worst = sorted(scenes[WELL:], key=lambda s: -share[s["scene"]])[:FAILURES]
    rows = [pair(product, s) for s in scenes[:WELL] + worst]
    width = max(r.shape[1] for r in rows)
    framed = [cv2.copyMakeBorder(r, 0, GAP, 0, width - r.shape[1] + GAP, cv2.BORDER_CONSTANT, value=(255,) * 3) for r in rows]
    height = max(len(r) for r in framed)
    framed = [cv2.copyMakeBorder(r, 0, height - len(r), 0, 0, cv2.BORDER_CONSTANT, value=(255,) * 3) for r in framed]
    sheet = np.vstack([np.hstack(framed[i : i + 2]) for i in range(0, len(framed), 2)])
    cv2.imwrite(str(DEMO / "gallery.png"), sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    for s in scenes[:WELL] + worst:
        print(f"{s['scene']}: {', '.join(labels_of(s))}: {100 * share[s['scene']]:.1f} % of the pixels wrong")


if __name__ == "__main__":
    main()
