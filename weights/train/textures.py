"""The backgrounds, drawn by formula: side × side × 3, float32 in 0 to 255."""

import cv2
import numpy as np


def noise(rng, side, octaves=4, base=4, persistence=0.6):
    """Smooth random field in 0 to 1."""
    total, amplitude = np.zeros((side, side), np.float32), 1.0
    for octave in range(octaves):
        n = min(side, base * 2**octave)
        grid = rng.standard_normal((n, n), np.float32)
        total += amplitude * cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        amplitude *= persistence
    return stretched(total)


def grain(rng, side):
    return rng.random((side, side), np.float32)


def stretched(field):
    return (field - field.min()) / (np.ptp(field) + 1e-6)


def blend(low, high, amount):
    return low * (1 - amount[..., None]) + high * amount[..., None]


def shade(rng, colour, spread=18):
    """A colour near this one: its hue a little off, its lightness a little more."""
    return np.clip(np.float32(colour) + rng.normal(0, spread * 0.5, 3) + rng.normal(0, spread * 0.6), 0, 255)


def _grid(side):
    """Rows and columns, in pixels."""
    return np.mgrid[0:side, 0:side]


def sky(rng, side):
    height = np.linspace(0, 1, side, dtype=np.float32)[:, None]
    image = blend(shade(rng, (70, 140, 225)), shade(rng, (180, 220, 250)), height + 0.1 * noise(rng, side, 2))
    if rng.random() < 0.5:
        clouds = np.clip((noise(rng, side, 5, 3) - 0.55) * 3, 0, 1) * rng.uniform(0.3, 0.9)
        image = blend(image, np.float32((255, 255, 255)), clouds)
    return image


def night_sky(rng, side):
    height = np.linspace(0, 1, side, dtype=np.float32)[:, None].repeat(side, 1)
    image = blend(shade(rng, (8, 10, 35), 8), shade(rng, (35, 35, 85), 10), height)
    image[grain(rng, side) < 0.003] = rng.uniform(170, 255)
    return image


def grass(rng, side):
    blades = cv2.blur(grain(rng, side), (1, int(rng.integers(3, 9))))
    return blend(
        shade(rng, (40, 105, 30)),
        shade(rng, (130, 190, 70)),
        stretched(0.5 * noise(rng, side, 5, 8, 0.9) + 0.5 * blades),
    )


def sand(rng, side):
    amount = 0.5 * noise(rng, side, 3) + 0.5 * grain(rng, side)
    return blend(shade(rng, (205, 175, 120)), shade(rng, (240, 215, 165)), amount)


def water(rng, side):
    y, x = _grid(side) / np.float32(side)
    swell = noise(rng, side)
    phase = rng.uniform(20, 60) * y * (1 + 0.3 * y) + 8 * swell + 4 * np.sin(x * rng.uniform(3, 12))
    amount = 0.8 * (0.6 * (0.5 + 0.5 * np.sin(phase)) + 0.4 * swell)
    return blend(shade(rng, (15, 80, 150)), shade(rng, (90, 175, 215)), amount.astype(np.float32))


def snow(rng, side):
    amount = np.clip(noise(rng, side, 4, 3) + 0.1 * rng.standard_normal((side, side), np.float32), 0, 1)
    return blend(shade(rng, (215, 228, 242), 8), shade(rng, (250, 252, 255), 5), amount)


def road(rng, side):
    amount = 0.4 * noise(rng, side) + 0.6 * grain(rng, side)
    image = blend(shade(rng, (70, 70, 75), 10), shade(rng, (105, 105, 110), 10), amount)
    if rng.random() < 0.6:  # a dashed line
        y, x = _grid(side) / side - 0.5
        angle = rng.uniform(-0.4, 0.4) + (rng.random() < 0.5) * np.pi / 2
        across = x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.2, 0.2)
        image[(np.abs(across) < 0.015) & (np.sin((x + y) * rng.uniform(15, 40)) > 0)] = shade(rng, (235, 225, 160), 30)
    return image


def brick_wall(rng, side):
    height = int(side * rng.uniform(0.05, 0.11))
    width = int(height * rng.uniform(1.8, 2.6))
    y, x = _grid(side)
    row = y // height
    x = x + row % 2 * (width // 2)
    tone = rng.random((side // height + 2, 2 * side // width + 3), np.float32)[row, x // width]
    image = blend(shade(rng, (140, 60, 45)), shade(rng, (190, 95, 70)), 0.7 * tone + 0.3 * grain(rng, side))
    image[(y % height < 2) | (x % width < 2)] = shade(rng, (200, 190, 180))
    return image


def wall(rng, side):
    paints = [(225, 210, 190), (200, 215, 220), (235, 235, 230), (215, 200, 215), (190, 205, 185)]
    paint = shade(rng, paints[rng.integers(len(paints))], 20)
    image = blend(paint, np.clip(paint - 15, 0, 255), noise(rng, side, 3))
    if rng.random() < 0.3:
        image[:, np.arange(side) // int(rng.integers(6, 20)) % 2 == 0] -= rng.uniform(8, 25)
    return image


def wood_floor(rng, side):
    height, length = int(side * rng.uniform(0.07, 0.17)), int(side * rng.uniform(0.28, 0.6))
    y, x = _grid(side)
    row = y // height
    x = x + rng.integers(0, side, side // height + 2)[row]
    tone = rng.random((side // height + 2, 2 * side // length + 3), np.float32)[row, x // length]
    fibre = cv2.blur(grain(rng, side), (15, 1)) - 0.5
    image = blend(shade(rng, (135, 85, 45)), shade(rng, (195, 140, 85)), np.clip(0.6 * tone + 0.9 * fibre + 0.2, 0, 1))
    image[(y % height == 0) | (x % length == 0)] *= 0.6
    return image


def soil(rng, side):
    amount = 0.6 * noise(rng, side, 5, 6, 0.8) + 0.4 * grain(rng, side)
    return blend(shade(rng, (70, 45, 25), 12), shade(rng, (125, 90, 60), 12), amount)


def gravel(rng, side):
    n = int(side * rng.uniform(0.14, 0.26))
    stones = cv2.resize(grain(rng, n), (side, side), interpolation=cv2.INTER_NEAREST)
    stones = np.float32(cv2.medianBlur(np.uint8(255 * stones), 5)) / 255
    image = blend(shade(rng, (120, 118, 115), 12), shade(rng, (200, 196, 190), 12), stones)
    image[np.abs(cv2.Laplacian(stones, cv2.CV_32F)) > 0.1] *= 0.65
    return image


def nameless(rng, side):
    """Clutter that no word is for."""
    kind = rng.random()
    colour = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    if kind < 0.3:
        return np.broadcast_to(colour[0], (side, side, 3)).copy()
    image = blend(colour[0], colour[1], noise(rng, side, int(rng.integers(1, 5)), int(rng.integers(2, 12))))
    if kind < 0.5:
        y, x = _grid(side)
        stripe = (y + x * (rng.random() < 0.5)) // int(rng.integers(5, 26)) % 2 == 0
        image[stripe] = rng.uniform(0, 255, 3)
    return image


TEXTURES = {
    "sky": sky,
    "night sky": night_sky,
    "grass": grass,
    "sand": sand,
    "water": water,
    "snow": snow,
    "road": road,
    "brick wall": brick_wall,
    "wall": wall,
    "wood floor": wood_floor,
    "soil": soil,
    "gravel": gravel,
    None: nameless,
}


class Bank:
    """Textures to cut from: making one costs more than the scene on it, so each serves about twenty scenes."""

    SIZE, EXTRA = 24, 1.4

    def __init__(self, rng, side):
        self.rng, self.side, self.kept = rng, side, {}

    def __call__(self, kind):
        rng, large = self.rng, int(self.side * self.EXTRA)
        kept = self.kept.setdefault(kind, [])
        if len(kept) < self.SIZE or rng.random() < 0.05:
            made = np.clip(TEXTURES[kind](rng, large), 0, 255).astype(np.uint8)
            if len(kept) == self.SIZE:
                kept[rng.integers(self.SIZE)] = made
            else:
                kept.append(made)
        texture = kept[rng.integers(len(kept))]
        y, x = rng.integers(0, large - self.side + 1, 2)
        cut = texture[y : y + self.side, x : x + self.side]
        cut = cut[:, ::-1] if rng.random() < 0.5 else cut
        return cut * rng.uniform(0.88, 1.1, 3).astype(np.float32)
