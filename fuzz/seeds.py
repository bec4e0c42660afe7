"""Makes fuzz/seeds/ and crates/torch-file/fuzz/seeds/pickle/ from the golden files:
`python fuzz/seeds.py target/debug/lseg-fast`. Needs PyTorch, Pillow."""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from PIL import Image

FUZZ = Path(__file__).resolve().parent
GOLDEN = FUZZ.parent / "tests/golden"
SMALL = 10_000
MODELS = ["resnet", "vit16", "vit32"]
# Of tests/photos/: what takes its own way through the decoders.
PHOTOS = [
    "scans_each_420_restarts.jpg", "scans_each_reducible.jpg", "scans_chroma_together_422.jpg", "scans_each_cmyk.jpg",
    "one_scan_thirds.jpg", "progressive_large_chroma.jpg", "colours_4_adobe2.jpg", "exif_slong_big.jpg",
    "exif_prefix.webp", "tiff_big_big.tif", "tiff_planes_alpha.tif", "tiff_tiles_little.tif", "tiff_associated_f2.tif",
    "tiff_grey_associated.tif", "tiff_cmyk_planes_u2.tif", "tiff_to_255_i2.tif", "tiff_palette_4.tif",
    "tiff_grey_2_fill_order_2.tif", "tiff_pages.tif", "refused/raw_in_sub_ifd.tif",
]


def write(target, name, data):
    path = FUZZ / "seeds" / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def link(target, file):
    """A seed that is another file of the project."""
    path = FUZZ / "seeds" / target / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(file, path.parent))


def header(file):
    """The JSON header of a safetensors file."""
    data = file.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    return data[8 : 8 + length].rstrip(b" ")


def packed(header):
    """A safetensors file of zeros."""
    length = max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + bytes(length)


def pickled(value):
    """data.pkl of a torch.save."""
    file = io.BytesIO()
    torch.save(value, file)
    with zipfile.ZipFile(file) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        return archive.read(name)


def repeated(header):
    """A model's state dict in which every tensor repeats one number: it takes no storage of its own."""
    one = torch.zeros(1)
    return {f"net.{name}": one.expand(t["shape"]) for name, t in header.items() if name != "__metadata__"}


def checkpoints(headers):
    for file in sorted((GOLDEN / "checkpoint").iterdir()):
        if file.stat().st_size <= SMALL:
            link("checkpoint", file)
    legacy = io.BytesIO()
    one = torch.zeros(1)
    torch.save({"scratch.head1.bias": one, "half": one.half()}, legacy, _use_new_zipfile_serialization=False)
    write("checkpoint", "small_legacy.pt", legacy.getvalue())
    types = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3"]
    sizes = [8, 4, 2, 2, 8, 4, 2, 1, 1, 1, 1]
    tensors, at = {"__metadata__": {"format": "pt"}}, 0
    for dtype, size in zip(types, sizes):
        tensors[f"net.{dtype}"] = {"dtype": dtype, "shape": [2, 1], "data_offsets": [at, at + 2 * size]}
        at += 2 * size
    write("checkpoint", "types.safetensors", packed(tensors))
    write("checkpoint", "metadata.safetensors", packed({"__metadata__": headers["vit16"]["__metadata__"]} | {
        "scratch.head1.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    }))


def measuring():
    """What `eval` reads: lists of photos, masks of ids, values and labels."""
    lists = {0: ["COCO_val2014_000000000001", "b"], 5: [], 300: ["c"] * 3}
    for protocol in (2, 3):
        write("split", f"protocol{protocol}.pkl", pickle.dumps(lists, protocol))
    write("split", "tuple.pkl", pickle.dumps({0: ("a",)}, 2))
    for name, mode, size in [("grey.png", "L", (5, 4)), ("indexed.png", "P", (3, 3)), ("words.png", "I;16", (4, 2))]:
        picture = io.BytesIO()
        Image.new(mode, size, 3).save(picture, "PNG")
        write("mask", name, picture.getvalue())
    write("map", "two.txt", b"# ids\n7 road\n8\ttall grass\n255,other\n")


def write_pickle(name, data):
    (FUZZ.parent / "crates/torch-file/fuzz/seeds/pickle" / name).write_bytes(data)


def pickles(headers):
    for file in sorted((GOLDEN / "checkpoint").iterdir()):
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    # Python reads no entry whose check sum was left out (no_crc32.pt).
                    if entry.filename.endswith("/data.pkl") and entry.file_size <= SMALL and entry.CRC != 0:
                        write_pickle(file.stem + ".pkl", archive.read(entry))
    storage = torch.zeros(24)
    views = {"whole": storage, "part": storage[3:7], "turned": storage.view(4, 6).T, "kept": torch.nn.Parameter(storage)}
    write_pickle("views.pkl", pickled({"state_dict": views, "hyper_parameters": {"arch_option": 0}}))
    for name, head_block in [("resnet", {"arch_option": 2, "block_depth": 3, "activation": "tanh"}), ("vit16", {})]:
        state = repeated(headers[name])
        write_pickle(f"{name}.pkl", pickled({"state_dict": state, "hyper_parameters": head_block}))


def configs(texts):
    for name, text in texts.items():
        write("config", f"{name}.json", text)
        foreign = json.loads(text)
        del foreign["__metadata__"]
        write("config", f"{name}_foreign.json", json.dumps(foreign, separators=(",", ":")).encode())
    # The configuration alone: what is read before any tensor is missed.
    for name, text in texts.items():
        own = {"__metadata__": json.loads(text)["__metadata__"]}
        own["a"] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        write("config", f"{name}_alone.json", json.dumps(own, separators=(",", ":")).encode())


def engines(texts):
    """Configurations, each with a few values for the weights: small, repeated bits, none that is a number."""
    values = {
        "small": bytes([0]) + bytes(range(1, 100, 7)),
        "half": bytes([1]) + bytes(range(200, 256, 5)),
        "nan": bytes([0x80]) + struct.pack("<2f", 0.5, float("nan")),
        "large": bytes([0x80]) + struct.pack("<2f", 1e38, -1e38),
        "double": bytes([0x82]) + struct.pack("<2d", 0.25, 1e300),
    }
    for name, text in texts.items():
        (config,) = json.loads(text)["__metadata__"].values()
        for kind, data in values.items():
            write("engine", f"{name}_{kind}.bin", config.encode() + b"\0" + data)
        if name == "resnet":
            for field, wide in [("stem", 20_000), ("embed_dim", 65_536), ("features", 4_000)]:
                data = re.sub(f'"{field}":[0-9]+', f'"{field}":{wide}', config).encode() + b"\0" + values["small"]
                write("engine", f"{name}_wide_{field}.bin", data)


def labels():
    lists = {
        "plain": "tree\ndining table\npotted plant\nother\n",
        "comments": "\ufeff# words\r\ndog\r\n  # more\r\n grass, tall \r\n@home\r\nc#\r\n",
        "references": "caf&eacute;\n&amp;eacute; &#233; &#x1F600; &lt;b&gt;\n<b> &amp;\n",
        "unicode": "ﬁne ｆｕｌｌ “quoted” ’s\n\u0130stanbul\nſ\nпривет мир\n你好\n👩‍👩‍👧\ne\u0301\n",
        "tokens": "<start_of_text>x<end_of_text>\ni'll they've 12 3.5!?\n\x1b[1;31mred\n",
        "long": "word " * 80 + "\n" + "x" * 200 + "\n",
        "twins": "Dog\ndog \n",
        "quotes": "\"grass, tall\"\n“a \"\"b\"\"”\n5\" nail\n'dog'\n",
        "line_ends": "dog\rcat\u2028sky\u0085sea\x0broad\x0ctree\n\n# end\n\n",
        "table": "Idx,Ratio,Name\n1,0.20,wall;brick\n2,0.10,door;double;door\n",
        "rows": "a;b\nc\td\ne|f\n1. g\n- h\ni  j\n",
        "list": "labels = [\"dog\", 'cat']\n",
    }
    for name, text in lists.items():
        write("labels", name + ".txt", text.encode())
    write("labels", "latin1.txt", b"dog\ncaf\xe9\n")


def photos():
    base = Image.linear_gradient("L").resize((17, 13))
    colour = Image.merge("RGB", [base, base.rotate(180), base.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    alpha = colour.copy()
    alpha.putalpha(base)
    exif = Image.Exif()
    exif[0x112] = 6
    kinds = {
        "plain.jpg": (colour, {"quality": 60}),
        "turned.jpg": (colour, {"quality": 60, "exif": exif}),
        "progressive.jpg": (colour, {"quality": 60, "progressive": True}),
        "cmyk.jpg": (colour.convert("CMYK"), {"quality": 60}),
        "grey.jpg": (base, {"quality": 60}),
        "alpha.png": (alpha, {}),
        "palette.png": (colour.quantize(7), {}),
        "bits16.png": (base.convert("I;16"), {}),
        "bilevel.png": (base.convert("1"), {}),
        "alpha.webp": (alpha, {"lossless": True}),
        "lossy.webp": (alpha, {"quality": 40}),
        "frames.gif": (colour, {"save_all": True, "append_images": [colour.rotate(90)]}),
        "plain.bmp": (colour, {}),
        "palette.bmp": (colour.quantize(7), {}),
        "lzw.tiff": (colour, {"compression": "tiff_lzw"}),
        "deflate.tiff": (alpha, {"compression": "tiff_deflate"}),
        "packbits.tiff": (base, {"compression": "packbits"}),
        "fax.tiff": (base.convert("1"), {"compression": "group4"}),
        "jpeg.tiff": (colour, {"compression": "jpeg"}),
        "float.tiff": (base.convert("F"), {}),
        "plain.ppm": (colour, {}),
        "grey.pgm": (base, {}),
        "bilevel.pbm": (base.convert("1"), {}),
    }
    for name, (picture, options) in kinds.items():
        file = io.BytesIO()
        formats = {"jpg": "JPEG", "tiff": "TIFF", "pgm": "PPM", "pbm": "PPM"}
        extension = name.split(".")[1]
        picture.save(file, formats.get(extension, extension.upper()), **options)
        write("photo", name, file.getvalue())
    for name in PHOTOS:
        link("photo", FUZZ.parent / "tests/photos" / name)
    write("photo", "ascii.ppm", b"P3\n# words\n2 1 255\n255 0 0  0 255 0\n")
    write("photo", "any.pam", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\nabcd")


def points():
    lists = {
        "plain": "x,y\n0,0\n12.5,7\n",
        "spaces": "\ufeff x , y \r\n 1e1 , -0.5 \r\n\r\n+3., .25\r\n",
        "odd": "y,x\nnan,inf\n1e400,-1e-400\n1;2\n",
        "quoted": '"x","y"\n"1","2"\n',
        "empty": "x,y\n",
    }
    for name, text in lists.items():
        write("points", name + ".csv", text.encode())


def palettes():
    lists = {
        "plain": "#ff0000 cat\n0 128 255\n7,8,9\n\n# words\n#00ff00\n",
        "gimp": "GIMP Palette\nName: mine\nColumns: 4\n#\n255   0   0\tred\n  0 255   0\tgreen\n",
        "wrong": "#f00\n256 0 0\n#12345678\n1 2\n",
    }
    for name, text in lists.items():
        write("palette", name + ".txt", text.encode())


def legends():
    lists = {
        "latin": "dog\ntall grass\nÉtang — “étroit”\nﬂower\n",
        "right_to_left": "سماء زرقاء\nשמיים\nabc אבג 123\n\u202edog\u2066cat\n",
        "east": "天空\n地面\nかな\n하늘\n한\n",
        "marks": "हिन्दी\nท้องฟ้า\ne\u0301\u0323\nz" + "\u0301" * 40 + "\n",
        "symbols": "👩‍👩‍👧\n🐶\n☃️\n\U0002a6d6\n\ue000\n\u200b\n\t\n",
        "long": "word " * 80 + "\n" + "天" * 300 + "\n",
    }
    for name, text in lists.items():
        write("legend", name + ".txt", text.encode())


def main(lseg_fast):
    texts = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            out = Path(folder) / f"{name}.safetensors"
            subprocess.run([lseg_fast, "convert", GOLDEN / name / "model.ckpt", "--out", out, "-q"], check=True)
            texts[name] = header(out)
    headers = {name: json.loads(text) for name, text in texts.items()}
    checkpoints(headers)
    pickles(headers)
    configs(texts)
    engines(texts)
    labels()
    photos()
    points()
    palettes()
    legends()
    measuring()


if __name__ == "__main__":
    main(sys.argv[1])
