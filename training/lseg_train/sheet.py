"""A picture by which an eye can tell whether masks and words fit the photos."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .errors import Refused
from .lists import shown
from .samples import IGNORED, OTHER

SAMPLES = 8
CELL = 240
"""The longer side of photos and masks, in pixels."""
LEGEND, LINE, GAP = 220, 14, 8


def colour(index):
    """A colour of its own for each label, bright where the index is small; black for ignored, grey for other."""
    if index < 0:
        return {IGNORED: (0, 0, 0), OTHER: (127, 127, 127)}[index]
    red, green, blue, n = 0, 0, 0, index + 1
    for bit in range(7, -1, -1):  # PASCAL VOC's palette: the index's bits, in turn, from the channels' highest bit down
        red, green, blue, n = red | (n & 1) << bit, green | (n >> 1 & 1) << bit, blue | (n >> 2 & 1) << bit, n >> 3
    return red, green, blue


def coloured(truth):
    """Colours of a truth, and its indices from the most frequent on."""
    indices, place, counts = np.unique(truth, return_inverse=True, return_counts=True)
    colours = np.array([colour(int(i)) for i in indices], np.uint8)
    return colours[place.reshape(truth.shape)], indices[np.argsort(-counts, kind="stable")].tolist()


def name_of(index, labels):
    return {IGNORED: "(ignored)", OTHER: "(other)"}[index] if index < 0 else "; ".join(labels[index])


def drawn(sample, title):
    """One sample: its photo, its mask in colours, the words."""
    colours, indices = coloured(sample.truth)
    scale = CELL / max(sample.truth.shape)
    size = [max(round(side * scale), 1) for side in sample.truth.shape[::-1]]
    cell = Image.new("RGB", (2 * CELL + LEGEND + 3 * GAP, CELL + LINE + 2 * GAP), "white")
    cell.paste(Image.fromarray(sample.photo).resize(size, Image.Resampling.BILINEAR), (GAP, LINE + GAP))
    cell.paste(Image.fromarray(colours).resize(size, Image.Resampling.NEAREST), (CELL + 2 * GAP, LINE + GAP))
    draw, x = ImageDraw.Draw(cell), 2 * CELL + 3 * GAP
    write(draw, (GAP, 2), title, cell.width - 2 * GAP)
    rows = CELL // LINE
    for row, index in enumerate(indices[:rows]):
        y = LINE + GAP + row * LINE
        if row == rows - 1 and len(indices) > rows:
            write(draw, (x, y), f"and {len(indices) - row} more", LEGEND)
            break
        draw.rectangle((x, y + 1, x + 10, y + 11), fill=colour(index), outline="black")
        write(draw, (x + 14, y), name_of(index, sample.labels), LEGEND - 14 - GAP)
    return cell


def write(draw, place, text, width):
    """A line of text with Pillow's own font, cut to a width; signs that the font cannot encode as question marks."""
    font, text = ImageFont.load_default(), shown(text)
    if not isinstance(font, ImageFont.FreeTypeFont):
        text = text.encode("latin-1", "replace").decode("latin-1")
    while text and draw.textlength(text, font) > width:
        text = text[:-1]
    draw.text(place, text, "black", font)


def contact_sheet(data_sets, path, seed):
    """Eight samples, of all data sets in turn, as one PNG file, which is there whole or not at all."""
    rng, cells = np.random.default_rng(seed), []
    unseen = [rng.permutation(len(data_set)).tolist() for data_set in data_sets]
    while len(cells) < SAMPLES and any(unseen):
        for data_set, left in zip(data_sets, unseen):
            if left and len(cells) < SAMPLES:
                i = left.pop()
                cells.append(drawn(data_set.load(i), f"{data_set.name}: {Path(data_set.title(i)).name}"))
    if not cells:
        raise Refused(f"{shown(path)}: expected a photo to show, found no data set with any")
    rows = -(-len(cells) // 2)
    sheet = Image.new("RGB", (2 * cells[0].width, rows * cells[0].height), "white")
    for i, cell in enumerate(cells):
        sheet.paste(cell, (i % 2 * cell.width, i // 2 * cell.height))
    save(sheet, Path(path))


def save(image, path):
    part = path.with_name(path.name + ".part")
    try:
        image.save(part, format="PNG")
        os.replace(part, path)
    except OSError as error:
        raise Refused(
            f"{shown(path)}: expected to write a picture there, found {error.strerror or shown(error)}"
        ) from None
    finally:
        part.unlink(missing_ok=True)
