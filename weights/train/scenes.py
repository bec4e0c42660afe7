"""Stage `scenes`: pictures with their truth, made beforehand by separate processes (a thread beside the training halves
its rate) -> cache/scenes/NNNN.{images,things}.npy and NNNN.names.json, a thousand scenes a shard.

A scene is one to three backgrounds and two to five nouns, at any size, turned, mirrored, lit, one hiding another."""

import argparse
import json
import multiprocessing

import cv2
import numpy as np

import glyphs
from sources import CACHE, TRAINING_STYLES
from textures import Bank
from things import BACKGROUNDS, TRAINED

SIDE = 192
SHARD = 1000
FOLDER = CACHE / "scenes"
SIZES = (0.17, 0.7)
"""Longer side of an object, in sides of the scene."""

ABOVE = ["sky", "sky", "night sky", "brick wall", "wall", "wall", None]
BELOW = ["grass", "grass", "sand", "water", "snow", "road", "wood floor", "soil", "gravel", "water", None]


class Glyphs:
    """name -> style -> premultiplied RGBA pictures."""

    def __init__(self):
        if not glyphs.PATH.exists():
            raise SystemExit(f"{glyphs.PATH} is missing; run the glyphs stage first")
        self.by_name = {}
        for key, rgba in np.load(glyphs.PATH).items():
            name, style, _ = key.split("/")
            rgba = rgba.astype(np.uint16)
            rgba[..., :3] = rgba[..., :3] * rgba[..., 3:] // 255
            self.by_name.setdefault(name, {}).setdefault(style, []).append(rgba.astype(np.uint8))

    def draw(self, rng, name, style, styles):
        """A picture of this style, or of another of `styles` where this one has none."""
        have = self.by_name[name]
        if style not in have:
            having = [s for s in styles if s in have]
            style = having[rng.integers(len(having))]
        return have[style][rng.integers(len(have[style]))]


def restyle(rng, rgba):
    """The same drawing in the manner of a style that no package has: colours, steps, outline and sharpness change."""
    alpha = rgba[..., 3]
    rgb = rgba[..., :3]
    if rng.random() < 0.55:
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + np.clip(rng.normal(0, 9), -25, 25)) % 180
        hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.5, 1.5), 0, 255)
        rgb = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    if rng.random() < 0.4:
        gamma = np.exp(rng.normal(0, 0.3))
        rgb = cv2.LUT(rgb, np.uint8(255 * (np.arange(256) / 255) ** gamma))
    if rng.random() < 0.05:
        rgb = rgb[..., rng.permutation(3)]
    if rng.random() < 0.2:  # flat, as with few paints
        rgb = cv2.medianBlur(np.ascontiguousarray(rgb), int(rng.choice([3, 5, 7])))
        if rng.random() < 0.6:
            step = int(rng.integers(32, 90))
            rgb = np.clip(rgb // step * step + step // 2, 0, 255).astype(np.uint8)
    rgb = rgb.astype(np.float32)
    if rng.random() < 0.6:  # any linear change of colours near none
        mix = np.eye(3) * rng.uniform(0.8, 1.15) + rng.normal(0, 0.07, (3, 3))
        rgb = rgb @ mix.T.astype(np.float32)
    rgb = np.clip(rgb + rng.normal(0, 8, 3) * (alpha[..., None] / 255), 0, alpha[..., None])
    out = np.dstack([rgb, alpha]).astype(np.float32)
    if rng.random() < 0.15:
        out = outlined(rng, out)
    if rng.random() < 0.12:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 1.4))
    return out


def outlined(rng, rgba):
    width = int(rng.integers(1, 4))
    rgba = cv2.copyMakeBorder(rgba, width, width, width, width, cv2.BORDER_CONSTANT)
    around = cv2.dilate(rgba[..., 3], cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1,) * 2))
    colour = np.float32(rng.choice([0, 30, 255]) if rng.random() < 0.8 else rng.uniform(0, 255, 3))
    beneath = (around - rgba[..., 3])[..., None] / 255
    return np.dstack([rgba[..., :3] + beneath * colour, around])


def placed(rng, rgba, side, size, centre):
    """The picture turned and mirrored in a scene: (rows, columns, RGBA there)."""
    height, width = rgba.shape[:2]
    scale = size / max(height, width)
    if scale < 0.7:
        small = (max(2, int(width * scale * 1.4)), max(2, int(height * scale * 1.4)))
        rgba = cv2.resize(rgba, small, interpolation=cv2.INTER_AREA)
        width, height = small
        scale = size / max(height, width)
    degrees = rng.normal(0, 12) if rng.random() < 0.94 else rng.uniform(-180, 180)
    cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    mirror = rng.choice([-1, 1]) * np.exp(rng.normal(0, 0.06))
    matrix = np.array([[cosine * mirror, -sine], [sine * mirror, cosine]])
    middle = np.array([width / 2, height / 2])
    reach = np.abs(matrix) @ middle + 2
    low = np.maximum(0, (centre - reach).astype(int))
    high = np.minimum(side, (centre + reach).astype(int) + 1)
    affine = np.c_[matrix, centre - matrix @ middle - low].astype(np.float32)
    there = cv2.warpAffine(np.float32(rgba), affine, tuple(int(n) for n in high - low), flags=cv2.INTER_LINEAR)
    return slice(low[1], high[1]), slice(low[0], high[0]), there


class Scenes:
    """Draws scenes (image u8 [side, side, 3], thing u8 [side, side], names): `thing` counts into `names`, where None
    is clutter without a name."""

    def __init__(self, seed, styles=TRAINING_STYLES, nouns=TRAINED, side=SIDE, one_style=0.3, restyled=0.85):
        self.rng = np.random.default_rng(seed)
        self.glyphs, self.bank = Glyphs(), Bank(self.rng, side)
        self.styles, self.nouns, self.side = styles, nouns, side
        self.one_style, self.restyled = one_style, restyled

    def ground(self):
        rng, side = self.rng, self.side
        if rng.random() < 0.25:
            kinds = [*BACKGROUNDS, None]
            kind = kinds[rng.integers(len(kinds))]
            return self.bank(kind), np.zeros((side, side), np.uint8), [kind]
        kinds = [ABOVE[rng.integers(len(ABOVE))]]
        kinds += [BELOW[i] for i in rng.integers(len(BELOW), size=1 + (rng.random() < 0.25))]
        image, thing, names = self.bank(kinds[0]), np.zeros((side, side), np.uint8), kinds[:1]
        level = rng.uniform(0.25, 0.6)
        for kind in kinds[1:]:
            waves = rng.choice([0, 0.02, 0.05, 0.1]) * np.sin(
                np.linspace(0, rng.uniform(2, 9), side) + rng.uniform(0, 6)
            )
            beneath = np.arange(side)[:, None] >= (level + waves)[None] * side
            image[beneath] = self.bank(kind)[beneath]
            if kind not in names:
                names.append(kind)
            thing[beneath] = names.index(kind)
            level = rng.uniform(min(level + 0.1, 0.85), 0.9)
        return image, thing, names

    def put(self, image, thing, index, rgba, size, centre):
        rng = self.rng
        rows, columns, there = placed(rng, rgba, self.side, size, centre)
        cover = there[..., 3:] / 255
        if rng.random() < 0.3:
            self.shadow(image, rows, columns, cover[..., 0])
        image[rows, columns] = image[rows, columns] * (1 - cover) + there[..., :3]
        thing[rows, columns][cover[..., 0] > 0.5] = index

    def shadow(self, image, rows, columns, cover):
        right, down = int(self.rng.integers(-6, 7)), int(self.rng.integers(0, 7))
        moved = cv2.warpAffine(cover, np.float32([[1, 0, right], [0, 1, down]]), cover.shape[::-1])
        image[rows, columns] *= 1 - self.rng.uniform(0.15, 0.45) * cv2.blur(moved, (5, 5))[..., None]

    def lit(self, image):
        rng = self.rng
        image = image * rng.uniform(0.75, 1.15) + rng.normal(0, 10)
        kind = rng.random()
        if kind < 0.15:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
        elif kind < 0.4:
            image = image + rng.standard_normal(image.shape, np.float32) * rng.uniform(2, 9)
        return np.clip(image, 0, 255).astype(np.uint8)

    def scene(self, must=()):
        """`must`: nouns that are in it whatever else is."""
        rng = self.rng
        image, thing, names = self.ground()
        image = image.astype(np.float32)
        free = max(0, rng.integers(2, 6) - len(must))
        nouns = [*must, *(self.nouns[i] for i in rng.integers(len(self.nouns), size=free))]
        common = self.styles[rng.integers(len(self.styles))] if rng.random() < self.one_style else None
        for noun in [nouns[i] for i in rng.permutation(len(nouns))]:
            style = common or self.styles[rng.integers(len(self.styles))]
            rgba = self.glyphs.draw(rng, noun, style, self.styles)
            if rng.random() < self.restyled:
                rgba = restyle(rng, rgba)
            if noun not in names:
                names.append(noun)
            size = self.side * np.exp(rng.uniform(*np.log(SIZES)))
            self.put(image, thing, names.index(noun), rgba, size, rng.uniform(0.12, 0.88, 2) * self.side)
        return self.lit(image), thing, names


def shard(number):
    """Writes shard `number`, which is also its seed."""
    path = FOLDER / f"{number:04}"
    if path.with_suffix(".names.json").exists():
        return
    cv2.setNumThreads(1)
    scenes = Scenes([2026, number])
    images = np.zeros((SHARD, SIDE, SIDE, 3), np.uint8)
    things, names = np.zeros((SHARD, SIDE, SIDE), np.uint8), []
    for i in range(SHARD):
        images[i], things[i], present = scenes.scene()
        names.append(present)
    np.save(f"{path}.images.npy", images)
    np.save(f"{path}.things.npy", things)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(names))
    part.rename(path.with_suffix(".names.json"))
    print(f"shard {number} done", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool(arguments.processes) as pool:
        pool.map(shard, range(arguments.first, arguments.first + arguments.shards), chunksize=1)


if __name__ == "__main__":
    main()
