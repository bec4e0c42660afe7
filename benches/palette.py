#!/usr/bin/env python3
"""The search for the first colours of src/image/palette.rs: `python3 benches/palette.py [SECONDS]` (numpy alone).

Two colours are as far apart as OKLab (Ottosson 2020) has them for the eye that sees them worst: the usual one or one
without red, green or blue cones (Machado, Oliveira & Fernandes 2009, severity 1.0, on linear sRGB). The search wants
the least distance large in every beginning of the list, since a photo with five labels has its first five colours.
"""

import itertools
import sys
import time

import numpy as np

COUNT = 20

VISIONS = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)

OTHERS = {
    "Okabe-Ito": "000000 E69F00 56B4E9 009E73 F0E442 0072B2 D55E00 CC79A7",
    "Tol bright": "4477AA EE6677 228833 CCBB44 66CCEE AA3377 BBBBBB",
    "Tol muted": "CC6677 332288 DDCC77 117733 88CCEE 882255 44AA99 999933",
    "Trubetskoy": "E6194B 3CB44B 4363D8 FFE119 F032E6 42D4F4 F58231 911EB4 BFEF45 008080 FF9EBC 9A6324 AAFFC3 800000 "
    "DCBEFF 6B8E00 000090 FFC88F 005A32 1E90FF",
}


def seen(colours):
    """8-bit sRGB [n, 3] as OKLab for each vision: [n, vision, 3]."""
    encoded = np.asarray(colours) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    eyes = np.clip(np.einsum("vij,nj->nvi", VISIONS, linear), 0, 1)
    return np.cbrt(eyes @ LMS.T) @ LAB.T


def distances(a, b):
    """[n, vision, 3], [m, vision, 3] -> [n, m], for the vision that tells them apart worst."""
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).min(-1)


def least(places):
    """The least distance within each beginning of 2, 3, … colours."""
    d = distances(places, places)
    return np.minimum.accumulate([d[k, :k].min() for k in range(1, len(places))])


def candidates():
    """Colours on a grid, none near black, white or grey."""
    grid = np.array(list(itertools.product([*range(0, 256, 12), 255], repeat=3)))
    lightness, a, b = seen(grid)[:, 0].T
    return grid[(lightness > 0.36) & (lightness < 0.94) & (np.hypot(a, b) > 0.09)]


def search(grid, places, rng):
    """Starts anywhere and puts at each place, again and again, the colour that serves all beginnings best."""
    chosen = rng.choice(len(grid), COUNT, replace=False)
    weights = np.ones(COUNT - 1)
    weights[[6, 10, 18]] = 3  # the beginnings of 8, 12 and 20
    best = -np.inf
    while True:
        for place in rng.permutation(COUNT):
            to_all = distances(places, places[chosen])
            others = distances(places[chosen], places[chosen])
            others[place, :] = others[:, place] = to_all[:, place] = np.inf
            np.fill_diagonal(others, np.inf)
            without = np.minimum.accumulate([others[k, :k].min() for k in range(1, COUNT)])
            own = np.minimum.accumulate(to_all, axis=1)[:, 1:]
            own[:, : max(place - 1, 0)] = np.inf
            score = (weights * np.log(np.maximum(np.minimum(own, without), 1e-9))).sum(1)
            chosen[place] = score.argmax()
        if score.max() < best + 1e-9:
            return best, grid[chosen]
        best = score.max()


def report(name, colours):
    """Prints the least distance among the first 5, 7, 8, 12 and 20 colours."""
    by_count = least(seen(colours))
    print(f"{name:10}", {k: round(float(by_count[k - 2]), 4) for k in (5, 7, 8, 12, 20) if k <= len(colours)})


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600
    grid = candidates()
    places = seen(grid)
    rng = np.random.default_rng(14)
    print(len(grid), "candidates")
    for name, colours in OTHERS.items():
        report(name, [tuple(bytes.fromhex(c)) for c in colours.split()])
    best, until = -np.inf, time.monotonic() + seconds
    while time.monotonic() < until:
        score, colours = search(grid, places, rng)
        if score > best:
            best = score
            report("found", colours)
            print(" ".join("%02X%02X%02X" % tuple(c) for c in colours), flush=True)


if __name__ == "__main__":
    main()
