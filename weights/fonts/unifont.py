#!/usr/bin/env python3
"""Makes Unifont.otf.zlib, the font of last resort, from the files of Debian's package fonts-unifont (or GNU's own).

    python3 -m venv venv && venv/bin/pip install fonttools zopfli
    apt-get download fonts-unifont && dpkg -x fonts-unifont_*.deb .
    venv/bin/python unifont.py usr/share/fonts/opentype/unifont DejaVuSans.ttf Unifont.otf.zlib

One font holds the glyphs of unifont.otf, of unifont_upper.otf and the rarer ideographs of unifont_jp.otf that
DejaVu Sans lacks, and ASCII; private use is left out. Layout tables are dropped. Outlines are as they were, but for
vowel signs that stand beside their letter (Unicode's category Mc): Unifont draws them back over the letter's cell, and
shapers move those that come first to the front, so they get a place of their own.
"""

import io
import sys
import unicodedata
from pathlib import Path

import zopfli.zlib
from fontTools.fontBuilder import FontBuilder
from fontTools.misc.psCharStrings import T2CharString
from fontTools.misc.transform import Identity
from fontTools.pens.boundsPen import BoundsPen
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.transformPen import TransformPen
from fontTools.ttLib import TTFont

folder, other, target = map(Path, sys.argv[1:])
kept = {*range(0x20, 0x7F), 0x25CC}  # what marks that DejaVu Sans lacks stand on
left_out = {*TTFont(other).getBestCmap(), *range(0xE000, 0xF900), *range(0xF0000, 0x110000)} - kept
sources = [
    ("unifont.otf", range(0x110000)),
    ("unifont_upper.otf", range(0x110000)),
    ("unifont_jp.otf", range(0x20000, 0x30000)),
]

names, characters, outlines, metrics = [], {}, {}, {}


def add(font, glyph):
    """A glyph's new name; numbers for names take no room."""
    name = f"cid{len(names):05d}" if names else ".notdef"
    names.append(name)
    outlines[name] = font["CFF "].cff.topDictIndex[0].CharStrings[glyph]
    outlines[name].decompile()
    metrics[name] = (font["hmtx"][glyph][0], 0)
    return name


def set_beside(name, font, glyph):
    """Moves the outline to the right of its origin, and gives it its own width and a pixel of room."""
    glyphs = font.getGlyphSet()
    bounds = BoundsPen(glyphs)
    glyphs[glyph].draw(bounds)
    left, _, right, _ = bounds.bounds
    pixel = font["head"].unitsPerEm // 16
    metrics[name] = (right - left + pixel, 0)
    pen = T2CharStringPen(None, glyphs)
    glyphs[glyph].draw(TransformPen(pen, Identity.translate(-left, 0)))
    outlines[name] = pen.getCharString()
    outlines[name].decompile()


for file, wanted in sources:
    font = TTFont(folder / file)
    if not names:
        add(font, ".notdef")
    for character, glyph in font.getBestCmap().items():
        if character in wanted and character not in left_out and character not in characters:
            characters[character] = add(font, glyph)
            if unicodedata.category(chr(character)) == "Mc" and metrics[characters[character]][0] == 0:
                set_beside(characters[character], font, glyph)

font = TTFont(folder / "unifont.otf")
table = font["CFF "]
top = table.cff.topDictIndex[0]
private, subroutines = top.FDArray[0].Private, table.cff.GlobalSubrs
programs = {name: outline.program for name, outline in outlines.items()}
top.CharStrings.charStrings = {
    name: T2CharString(program=program, private=private, globalSubrs=subroutines) for name, program in programs.items()
}
top.CharStrings.charStringsAreIndexed = 0
top.charset = names
top.CIDCount = len(names)
top.FDSelect.gidArray = [0] * len(names)

builder = FontBuilder(font["head"].unitsPerEm, isTTF=False)
builder.setupGlyphOrder(names)
builder.setupCharacterMap(characters)
builder.font["CFF "] = table
builder.setupHorizontalMetrics(metrics)
builder.setupHorizontalHeader(ascent=font["hhea"].ascent, descent=font["hhea"].descent)
record = font["name"].getDebugName
builder.setupNameTable(
    {"copyright": record(0), "familyName": "Unifont", "styleName": "Regular", "psName": "Unifont", "version": record(5),
     "licenseDescription": record(13)},
    mac=False,
)
builder.setupOS2()
builder.setupPost(keepGlyphNames=False)
builder.font["head"].created = builder.font["head"].modified = 0
file = io.BytesIO()
builder.font.recalcTimestamp = False
builder.save(file)
packed = zopfli.zlib.compress(file.getvalue())
target.write_bytes(packed)
print(f"{len(names)} glyphs, {len(file.getvalue())} bytes, packed {len(packed)}")
