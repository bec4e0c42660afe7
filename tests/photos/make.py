"""Makes the photos beside this file, and in right/ the pixels that they hold; right.txt tells which are whose.

Needs Pillow, NumPy, tifffile and libjpeg-turbo's cjpeg and jpegtran: `pip install pillow numpy tifffile`,
`apt-get install libjpeg-turbo-progs`, then `python tests/photos/make.py`. A JPEG's right pixels are what Pillow
(libjpeg-turbo) reads of it; a TIFF's are the array that it was made of; a turned photo's are ImageOps.exif_transpose's.
"""

import io
import itertools
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
W, H = 45, 35

y, x = np.mgrid[:H, :W].astype(float)
RGB = np.stack([127 + 120 * np.sin(x / 9) * np.cos(y / 7), 255 * x / (W - 1), 255 * y / (H - 1)], -1).round().astype("u1")
RGB[20:30, 5:15] = [250, 20, 60]
RGB[0, 0], RGB[0, 1] = 0, 255
GREY = RGB[..., 1].copy()
ALPHA = (255 * y / (H - 1)).round().astype("u1")
PHOTO = Image.fromarray(RGB)


RIGHT = {}  # an array's bytes and shape: the name of its file
LIST = []


def save(name, data, right):
    """A photo and its right pixels: an array [H, W, 3] or [H, W], or None for what Pillow reads, upright."""
    path = HERE / name
    path.write_bytes(data)
    if right is None:
        right = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    right = Image.fromarray(np.asarray(right).round().astype("u1")).convert("RGB")
    key = (right.tobytes(), right.size)
    if key not in RIGHT:
        RIGHT[key] = f"right/{path.stem}.png"
        (HERE / "right").mkdir(exist_ok=True)
        right.save(HERE / RIGHT[key], optimize=True)
    LIST.append(f"{name} {RIGHT[key]}\n")


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


# JPEG


def tool(*arguments, data):
    return subprocess.run(arguments, input=data, capture_output=True, check=True).stdout


def with_scans(script, *arguments, data):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(script)
        file.flush()
        return tool(*arguments, "-scans", file.name, data=data)


def jpeg_scans():
    ppm = encoded(PHOTO, "PPM")
    samplings = {
        "444": "1x1,1x1,1x1", "422": "2x1,1x1,1x1", "440": "1x2,1x1,1x1", "420": "2x2,1x1,1x1", "411": "4x1,1x1,1x1",
        "410": "4x2,1x1,1x1", "441": "1x4,1x1,1x1", "mixed": "2x2,2x1,1x2", "large_chroma": "1x1,2x2,1x1",
        "thirds": "3x1,1x1,1x1", "reducible": "4x2,2x2,2x1",
    }
    scripts = {"each": "0;1;2;", "reversed": "2;1;0;", "chroma_together": "0;1 2;", "luma_with_one": "0 1;2;"}
    for sampling, restart in itertools.product(samplings, [0, 1]):
        name = f"scans_each_{sampling}" + ("_restarts" if restart else "")
        command = ["cjpeg", "-quality", "85", "-sample", samplings[sampling], "-restart", "3B" if restart else "0"]
        save(name + ".jpg", with_scans(scripts["each"], *command, data=ppm), None)
    for script, sampling in itertools.product(list(scripts)[1:], ["420", "422"]):
        command = ["cjpeg", "-quality", "85", "-sample", samplings[sampling]]
        save(f"scans_{script}_{sampling}.jpg", with_scans(scripts[script], *command, data=ppm), None)
    for sampling in ["420", "large_chroma", "thirds"]:
        for kind in [[], ["-progressive"]]:
            data = tool("cjpeg", "-quality", "85", "-sample", samplings[sampling], *kind, data=ppm)
            save(f"{'progressive' if kind else 'one_scan'}_{sampling}.jpg", data, None)
    cmyk = encoded(PHOTO.convert("CMYK"), "JPEG", quality=85)
    save("scans_each_cmyk.jpg", with_scans("0;1;2;3;", "jpegtran", "-copy", "all", data=cmyk), None)


JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"


def adobe(transform):
    return b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])


def with_segments(jpeg, segments, ids=None):
    """`segments` in place of the application segments, and the components called `ids`."""
    out, at, old = jpeg[:2] + segments, 2, []
    while True:
        marker, length = jpeg[at + 1], struct.unpack_from(">H", jpeg, at + 2)[0]
        segment = bytearray(jpeg[at : at + 2 + length])
        if marker == 0xC0 and ids:
            for i in range(segment[9]):
                old.append(segment[10 + 3 * i])
                segment[10 + 3 * i] = ids[i]
        if marker == 0xDA and ids:
            for i in range(segment[4]):
                segment[5 + 2 * i] = ids[old.index(segment[5 + 2 * i])]
        if not 0xE0 <= marker <= 0xEF:
            out += segment
        at += 2 + length
        if marker == 0xDA:
            return bytes(out) + jpeg[at:]


def jpeg_colours():
    three = encoded(PHOTO.crop((0, 12, 24, 32)), "JPEG", quality=85, subsampling="4:2:0")
    four = encoded(PHOTO.crop((0, 12, 24, 32)).convert("CMYK"), "JPEG", quality=85)
    kinds = {
        "jfif_adobe0": (JFIF + adobe(0), None), "adobe0": (adobe(0), None), "adobe1": (adobe(1), None),
        "adobe7": (adobe(7), None), "none": (b"", None), "ids_rgb": (b"", b"RGB"), "ids_rgb_jfif": (JFIF, b"RGB"),
        "ids_rgb_adobe1": (adobe(1), b"RGB"), "adobe_first_0_then_1": (adobe(0) + adobe(1), None),
        "adobe_too_short": (b"\xff\xee\0\x0dAdobe\0\x64\0\0\0\0", None), "ids_0": (b"", bytes([0, 1, 2])),
    }
    for kind, (segments, ids) in kinds.items():
        save(f"colours_3_{kind}.jpg", with_segments(three, segments, ids), None)
    for kind, segments in {"none": b"", "adobe0": adobe(0), "adobe2": adobe(2), "adobe7": adobe(7), "jfif": JFIF}.items():
        save(f"colours_4_{kind}.jpg", with_segments(four, segments), None)
    save("colours_1_adobe2.jpg", with_segments(encoded(PHOTO.convert("L"), "JPEG"), adobe(2)), None)


# EXIF

INTEGERS = {"byte": (1, "B"), "short": (3, "H"), "long": (4, "I"), "sbyte": (6, "b"), "sshort": (8, "h"), "slong": (9, "i")}


def exif(orientation, kind="short", order=">"):
    code, letter = INTEGERS[kind]
    value = struct.pack(order + letter, orientation).ljust(4, b"\0")
    mark = b"MM\0*" if order == ">" else b"II*\0"
    return mark + struct.pack(order + "IHHHI", 8, 1, 0x112, code, 1) + value + bytes(4)


def app1(block):
    data = b"Exif\0\0" + block
    return b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data


def chunk(kind, data):

    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def webp(block):
    """A lossless WebP with this EXIF chunk."""
    plain = encoded(PHOTO, "WEBP", lossless=True)
    size = struct.pack("<I", W - 1)[:3] + struct.pack("<I", H - 1)[:3]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + size + plain[12:]
    body += b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def turned():
    jpeg = with_segments(encoded(PHOTO, "JPEG", quality=85), b"")
    insert = lambda data, part, at=2: data[:at] + part + data[at:]
    for kind, order in itertools.product(INTEGERS, "<>"):
        name = f"exif_{kind}_{'little' if order == '<' else 'big'}.jpg"
        # Pillow leaves a BYTE as it is; the pixels are those of any other type.
        right = Image.open(io.BytesIO(insert(jpeg, app1(exif(6)))))
        save(name, insert(jpeg, app1(exif(6, kind, order))), ImageOps.exif_transpose(right))
    save("exif_twice.jpg", insert(jpeg, app1(exif(6)) + app1(exif(3))), None)
    save("exif_after_xmp.jpg", insert(jpeg, b"\xff\xe1\0\x1fhttp://ns.adobe.com/xap/1.0/\0" + app1(exif(8))), None)
    save("exif_0.jpg", insert(jpeg, app1(exif(0))), None)
    save("exif_9_long.jpg", insert(jpeg, app1(exif(9, "long"))), None)
    save("exif.webp", webp(exif(6, "long", "<")), None)
    save("exif_prefix.webp", webp(b"Exif\0\0" + exif(8)), None)
    png = encoded(PHOTO, "PNG")
    save("exif_before.png", insert(png, chunk(b"eXIf", exif(5, "long")), 33), None)
    # W3C PNG, 11.3.2.9: eXIf may be anywhere, but ours, as most, take it before the pixels only.
    save("exif_after.png", insert(png, chunk(b"eXIf", exif(5)), len(png) - 12), RGB)


# TIFF


def on_white(colour, alpha):
    return (colour.astype(float) * alpha / 255 + 255 - alpha).round()


def tiff(name, array, right, **options):
    file = io.BytesIO()
    if "predictor" not in options and array.dtype != bool:
        options["compression"] = "zlib" if array.itemsize > 2 else None
    tifffile.imwrite(file, array, metadata=None, **options)
    save(f"tiff_{name}.tif", file.getvalue(), right)


def tiffs():
    for order, big in itertools.product("<>", [False, True]):
        name = ("big_" if big else "classic_") + ("little" if order == "<" else "big")
        tiff(name, RGB, RGB, byteorder=order, bigtiff=big, photometric="rgb")
    for depth, full in [("u1", 255), ("u2", 65535), ("f2", 1), ("f4", 1), ("f8", 1)]:
        scaled = lambda a: a.astype(depth) if full == 255 else (a / 255 * full).astype(depth)
        rgba = np.dstack([RGB, ALPHA])
        premultiplied = np.dstack([RGB * (ALPHA[..., None] / 255), ALPHA])
        if full == 255:
            premultiplied = premultiplied.round()
        right = on_white(RGB, ALPHA[..., None])
        tiff(f"associated_{depth}", scaled(premultiplied), right, photometric="rgb", extrasamples=["assocalpha"])
        tiff(f"unassociated_{depth}", scaled(rgba), right, photometric="rgb", extrasamples=["unassalpha"])
    both = {"photometric": "minisblack", "planarconfig": "contig"}
    right = on_white(GREY, ALPHA)
    tiff("grey_unassociated", np.dstack([GREY, ALPHA]), right, extrasamples=["unassalpha"], **both)
    grey = np.dstack([(GREY * (ALPHA / 255)).round().astype("u1"), ALPHA])
    tiff("grey_associated", grey, right, extrasamples=["assocalpha"], **both)
    tiff("unspecified", np.dstack([RGB, ALPHA]), RGB, photometric="rgb", extrasamples=["unspecified"])
    for order in "<>":
        end = "little" if order == "<" else "big"
        tiff(f"planes_{end}", RGB.transpose(2, 0, 1), RGB, photometric="rgb", planarconfig="separate", byteorder=order)
        tiff(f"tiles_{end}", RGB, RGB, photometric="rgb", tile=(16, 16), byteorder=order, compression="zlib", predictor=True)
        tiff(f"planes_of_tiles_{end}", RGB.transpose(2, 0, 1), RGB, photometric="rgb", planarconfig="separate",
             tile=(16, 16), byteorder=order)
    tiff("tiles_below_the_last_row", RGB[:, :32], RGB[:, :32], photometric="rgb", tile=(16, 16))
    tiff("tiles_bits", GREY > 127, (GREY > 127) * 255, photometric="minisblack", tile=(16, 16))
    planes = np.dstack([RGB, ALPHA]).transpose(2, 0, 1)
    tiff("planes_alpha", planes, on_white(RGB, ALPHA[..., None]), photometric="rgb", planarconfig="separate",
         extrasamples=["unassalpha"])
    tiff("white_is_zero", GREY, 255 - GREY, photometric="miniswhite")
    tiff("white_is_zero_u2", GREY.astype("u2") * 257, 255 - GREY, photometric="miniswhite")
    tiff("bilevel", GREY > 127, (GREY > 127) * 255, photometric="minisblack")
    cmyk = np.dstack([RGB, ALPHA // 2])
    right = np.asarray(Image.fromarray(cmyk, "CMYK").convert("RGB"))
    tiff("cmyk", cmyk, right, photometric="separated")
    tiff("cmyk_planes_u2", cmyk.transpose(2, 0, 1).astype("u2") * 257, right, photometric="separated",
         planarconfig="separate")
    tiff("grey_u2", np.arange(W * H, dtype="u2").reshape(H, W) * 41, np.arange(W * H).reshape(H, W) * 41 / 257)
    # Types of which no format says what is white.
    for depth, fulls in {"f4": [255, 65535], "f8": [255], "u4": [255, 65535, 2**32 - 1], "u8": [255], "i2": [255],
                         "i4": [255, 65535], "i8": [255]}.items():
        for full in fulls:
            tiff(f"to_{full}_{depth}", (RGB / 255 * full).round().astype(depth), RGB, photometric="rgb")
    few = (RGB / 255).astype("f4")
    few[3, 3, 0] = 1.4
    right = RGB.copy()
    right[3, 3, 0] = 255
    tiff("few_outliers", few, right, photometric="rgb", compression="zlib", predictor=3)
    # Palettes.
    rng = np.random.default_rng(1)
    for bits in [1, 2, 4, 8]:
        index = GREY >> (8 - bits)
        for short in [False, True]:
            colours = rng.integers(0, 256, (3, 1 << bits))
            entries = colours if short else colours * 257
            name = f"tiff_palette_{bits}{'_of_8_bits' if short else ''}.tif"
            extra = [(320, 3, list(entries.ravel()))]
            save(name, packed(bits, 3, index, extra, ">" if short else "<"), colours.T[index])
        level = index.astype(float) * 255 / (2**bits - 1)
        save(f"tiff_grey_{bits}.tif", packed(bits, 1, index), level)
        save(f"tiff_grey_{bits}_fill_order_2.tif", packed(bits, 1, index, [(266, 3, [2])], reverse=True), level)
    # Pages: the first is the photo; a smaller copy of it changes nothing.
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(RGB, photometric="rgb", metadata=None, subifds=1)
        writer.write(RGB[::2, ::2], photometric="rgb", metadata=None, subfiletype=1)
        writer.write(255 - RGB.repeat(2, 0), photometric="rgb", metadata=None)
    save("tiff_pages.tif", file.getvalue(), RGB)
    tiff("alone_and_reduced", RGB, RGB, photometric="rgb", subfiletype=1)
    for orientation, (kind, (code, _)) in zip([2, 3, 4, 5, 6, 8], INTEGERS.items()):
        right = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(PHOTO, "PNG", exif=exif_of(orientation)))))
        tiff(f"orientation_{kind}", RGB, right, photometric="rgb", extratags=[(274, code, 1, orientation, True)])


def exif_of(orientation):
    block = Image.Exif()
    block[0x112] = orientation
    return block


def packed(bits, photometric, samples, extra=(), order="<", reverse=False):
    """A TIFF of samples of fewer than 8 bits, or of 8."""
    text = ["".join(format(value, f"0{bits}b") for value in row) for row in samples]
    rows = [row.ljust(-(-len(row) // 8) * 8, "0") for row in text]
    octets = [row[i : i + 8] for row in rows for i in range(0, len(row), 8)]
    data = bytes(int(octet[::-1] if reverse else octet, 2) for octet in octets)
    data += bytes(len(data) % 2)
    tags = [(256, 3, [W]), (257, 3, [H]), (258, 3, [bits]), (259, 3, [1]), (262, 3, [photometric]), (273, 4, [8]),
            (277, 3, [1]), (278, 3, [H]), (279, 4, [len(octets)]), *extra]
    start = 8 + len(data)
    entries, values = struct.pack(order + "H", len(tags)), b""
    for tag, kind, numbers in sorted(tags):
        raw = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(raw) > 4:
            offset = start + 2 + 12 * len(tags) + 4 + len(values)
            values += raw
            raw = struct.pack(order + "I", offset)
        entries += struct.pack(order + "HHI", tag, kind, len(numbers)) + raw.ljust(4, b"\0")
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start) + data + entries + bytes(4) + values


# What is refused: no right pixels.


def refused():
    folder = HERE / "refused"
    folder.mkdir(exist_ok=True)

    def write(name, array, **options):
        tifffile.imwrite(folder / f"{name}.tif", array, metadata=None, **options)

    small = RGB[::2, ::2]
    for depth in ["f4", "f8"]:
        write(f"negative_{depth}", (small / 255 - 0.5).astype(depth), photometric="rgb")
    write("hdr", (small / 255 * 6).astype("f4"), photometric="rgb")
    holes = (small / 255).astype("f4")
    holes[3] = np.nan
    write("nan", holes, photometric="rgb")
    write("to_4095_u4", small.astype("u4") * 16, photometric="rgb")
    write("negative_i2", small.astype("i2") - 100, photometric="rgb")
    write("lab", small, photometric="cielab")
    write("bands", np.dstack([small, small]), photometric="minisblack", planarconfig="contig")
    write("cfa", small[..., 1].astype("u2"), photometric="cfa")
    write("dng_version", small, photometric="rgb", extratags=[(50706, 1, 4, bytes([1, 4, 0, 0]), True)])
    with tifffile.TiffWriter(folder / "raw_in_sub_ifd.tif") as writer:
        writer.write(small, photometric="rgb", metadata=None, subfiletype=1, subifds=1)
        writer.write(GREY.astype("u2"), photometric="cfa", metadata=None)
    with tifffile.TiffWriter(folder / "reduced_first.tif") as writer:
        writer.write(small, photometric="rgb", metadata=None, subfiletype=1)
        writer.write(RGB, photometric="rgb", metadata=None)
    with tifffile.TiffWriter(folder / "larger_in_sub_ifd.tif") as writer:
        writer.write(small, photometric="rgb", metadata=None, subifds=1)
        writer.write(RGB, photometric="rgb", metadata=None)
    Image.fromarray(small).save(folder / "jpeg.tif", compression="jpeg")
    Image.fromarray(small).convert("YCbCr").save(folder / "ycbcr.tif")
    Image.fromarray(small).convert("1").save(folder / "group3.tif", compression="group3")
    (folder / "short_palette.tif").write_bytes(packed(4, 3, GREY >> 4, [(320, 3, [7] * 16)]))
    ppm = encoded(Image.fromarray(small), "PPM")
    (folder / "arithmetic.jpg").write_bytes(tool("cjpeg", "-arithmetic", data=ppm))
    sampled = with_scans("0;1;2;", "cjpeg", "-sample", "4x1,2x1,1x1", data=ppm)
    (folder / "sampled_4_2_1.jpg").write_bytes(sampled)
    sequential = tool("cjpeg", data=ppm)
    for name, marker, bits in [("lossless", 0xC3, 8), ("hierarchical", 0xC5, 8), ("bits_12", 0xC1, 12)]:
        other = bytearray(sequential)
        at = other.index(b"\xff\xc0")
        other[at + 1], other[at + 4] = marker, bits
        (folder / f"{name}.jpg").write_bytes(other)


if __name__ == "__main__":
    jpeg_scans()
    jpeg_colours()
    turned()
    tiffs()
    refused()
    (HERE / "right.txt").write_text("".join(LIST))
