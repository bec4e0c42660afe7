"""The files of `lseg-fast embed` as their readers open them: numpy.load, safetensors, torch.load(weights_only=True).

    python tests/golden/feature_files.py --binary target/release/lseg-fast

Every format, layout and element type of one pass, and the presets with files of their own in every format, of two
photos with the network `vit32`: names, shapes, element types, contiguity, finite values, and in all files of a photo
the same values to the bit. Then projections: `--pca` against NumPy's eigenvectors, `--project` of matrices that NumPy
saves. A few minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from PIL import Image

import seeded
from protocol_reference import scaled_size

MODEL = Path(__file__).parent / "vit32" / "model.ckpt"
CHANNELS = 64
PHOTOS = {"wide": (45, 61), "upright": (70, 52)}  # height, width
SIZE = (96, 128)  # of one pass
FORMATS = ("npy", "safetensors", "pt")
LAYOUTS = ("chw", "hwc", "nchw")
DTYPES = {"f16": "float16", "f32": "float32"}

# As docs/whole-photos.md has them: format, layout, element type, the map of a photo of height h and width w.
PRESETS = {
    "openscene": ("pt", "chw", "f16", lambda h, w: (h, w)),
    "feature3dgs": ("pt", "chw", "f16", lambda h, w: (h, w)),
    "vlmaps": ("npy", "nchw", "f32", lambda h, w: scaled_size(h, w, 520)),
    "lseg-minimal": ("pt", "nchw", "f32", lambda h, w: (240, 320)),
    "lsm": ("pt", "chw", "f32", lambda h, w: (128, 128)),
}


class Differences:
    """What was looked at, and one line for each thing that is not as it should be."""

    def __init__(self):
        self.looked, self.lines = 0, []

    def expect(self, name, what, got, wanted):
        self.looked += 1
        if got != wanted:
            self.lines.append(f"{name}: {what} is {got}, not {wanted}")

    def same_bytes(self, name, what, got, wanted):
        self.looked += 1
        if got.tobytes() != wanted.tobytes():
            self.lines.append(f"{name}: {what} has other bytes")


def arranged(chw, layout):
    return {"chw": chw, "hwc": chw.transpose(1, 2, 0), "nchw": chw[None]}[layout]


def channels_first(array, layout):
    return {"chw": lambda: array, "hwc": lambda: array.transpose(2, 0, 1), "nchw": lambda: array[0]}[layout]()


# -------------------------------------------------------------------------------------------------------------- reading


def read_npy(path, name, differences):
    array = np.load(path, allow_pickle=False)
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    differences.same_bytes(name, "the mapped file", mapped, array)
    differences.expect(name, "byte order", array.dtype.isnative, True)
    return array


def read_safetensors(path, name, differences):
    tensors = safetensors.numpy.load_file(path)
    differences.expect(name, "tensors", list(tensors), ["features"])
    array = tensors["features"]
    differences.same_bytes(name, "PyTorch's tensor", safetensors.torch.load_file(path)["features"].numpy(), array)
    with safetensors.safe_open(path, "np") as file:
        differences.same_bytes(name, "a slice", file.get_slice("features")[:1], array[:1])
    return array


def read_pt(path, name, differences):
    tensor = torch.load(path, weights_only=True)
    differences.expect(name, "type", type(tensor), torch.Tensor)
    differences.expect(name, "is_contiguous", tensor.is_contiguous(), True)
    storage = tensor.untyped_storage().nbytes()
    differences.expect(name, "bytes of its storage", storage, tensor.numel() * tensor.itemsize)
    differences.expect(name, "device, gradient", (str(tensor.device), tensor.requires_grad), ("cpu", False))
    mapped = torch.load(path, weights_only=True, mmap=True)
    differences.same_bytes(name, "the mapped file", mapped.numpy(), tensor.numpy())
    return tensor.numpy()


READERS = {"npy": read_npy, "safetensors": read_safetensors, "pt": read_pt}


# ------------------------------------------------------------------------------------------------------------- checking


def embed(program, photos, out, options):
    """→ its objects by the photo's stem."""
    call = [program, "embed", photos, "--model", MODEL, "--device", "cpu", "--out", out, "--json", "-q", *options]
    done = subprocess.run([str(part) for part in call], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, call))}\n{done.stderr}")
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(said["photo"]).stem: said for said in objects}


def file_name(stem, preset, kind, size):
    if preset is None:
        return f"{stem}.embed.{kind}"
    if preset == "feature3dgs":
        return f"{stem}_fmap_{CHANNELS}x{size[0]}x{size[1]}.{kind}"
    return f"{stem}.{kind}"


def check(program, photos, options, preset, form, map_size, differences):
    """One call's files; → each photo's values, channels first."""
    kind, layout, dtype = form
    values = {}
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        said = embed(program, photos, out, options)
        sizes = {stem: tuple(map_size(*PHOTOS[stem])) for stem in PHOTOS}
        names = {stem: file_name(stem, preset, kind, sizes[stem]) for stem in PHOTOS}
        call = f"embed {' '.join(map(str, options))}"
        differences.expect(call, "the folder", sorted(p.name for p in out.iterdir()), sorted(names.values()))
        for stem in PHOTOS:
            path = out / names[stem]
            if not path.exists():
                continue
            name, wanted = f"{call}: {path.name}", arranged(np.empty((CHANNELS, *sizes[stem])), layout).shape
            array = READERS[kind](path, name, differences)
            differences.expect(name, "shape", array.shape, wanted)
            differences.expect(name, "element type", array.dtype, np.dtype(DTYPES[dtype]))
            differences.expect(name, "contiguity", array.flags.c_contiguous, True)
            differences.expect(name, "finite", bool(np.isfinite(array).all()), True)
            differences.expect(name, "constant", bool((array == array.flat[0]).all()), False)
            reported = (tuple(said[stem]["shape"]), said[stem]["dtype"], [f["path"] for f in said[stem]["files"]])
            differences.expect(name, "--json", reported, (wanted, DTYPES[dtype], [str(path)]))
            values[stem] = channels_first(array, layout)
    print(f"{call}: {', '.join(names.values())}", flush=True)
    return values


def same(name, got, wanted, differences):
    """To the bit, for each photo."""
    for stem in PHOTOS:
        equal = stem in got and stem in wanted and got[stem].tobytes() == wanted[stem].tobytes()
        differences.expect(f"{name}: {stem}", "equal to the bit", equal, True)


def half_size(_height, _width):
    return SIZE[0] // 2, SIZE[1] // 2


def one_pass(program, photos, differences):
    """Every format × layout × element type, float16 as NumPy rounds float32."""
    size = ["--size", "{}x{}".format(*SIZE)]
    maps = {}
    for form in product(FORMATS, LAYOUTS, DTYPES):
        options = [*size, "--format", form[0], "--layout", form[1], "--dtype", form[2]]
        maps[form] = check(program, photos, options, None, form, half_size, differences)
    whole = maps["npy", "chw", "f32"]
    rounded = {stem: array.astype(np.float16) for stem, array in whole.items()}
    for form, values in maps.items():
        same(f"embed {' '.join(form)}", values, rounded if form[2] == "f16" else whole, differences)
    default = check(program, photos, size, None, ("npy", "chw", "f32"), half_size, differences)
    same("embed without --format", default, whole, differences)


def presets(program, photos, differences):
    """Each as its users read it, then in the other formats."""
    for preset, (kind, layout, dtype, map_size) in PRESETS.items():
        options = ["--preset", preset]
        own = check(program, photos, options, preset, (kind, layout, dtype), map_size, differences)
        for other in FORMATS:
            if other != kind:
                form = (other, layout, dtype)
                values = check(program, photos, [*options, "--format", other], preset, form, map_size, differences)
                same(f"embed --preset {preset} --format {other}", values, own, differences)


def embedded(program, photos, *options):
    """→ each photo's values [pixels, channels] in float64, and the basis' tensors where there is one."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        embed(program, photos, out, ["--size", "{}x{}".format(*SIZE), "--layout", "hwc", *options])
        maps = {stem: np.load(out / f"{stem}.embed.npy").astype(np.float64) for stem in PHOTOS}
        basis = out / "pca.safetensors"
        tensors = safetensors.numpy.load_file(basis) if basis.exists() else {}
    return {stem: values.reshape(-1, values.shape[-1]) for stem, values in maps.items()}, tensors


def close(name, what, got, wanted, tolerance, differences):
    """Of the largest value."""
    differences.looked += 1
    error = np.abs(got - wanted).max() / np.abs(wanted).max() if got.shape == wanted.shape else np.inf
    if not error <= tolerance:
        differences.lines.append(f"{name}: {what} is off by {error:.1e} of the largest, {tolerance} is allowed")


def principal(program, photos, differences, count=5):
    """All pixels are in the fit: the maps have fewer than 16,384."""
    plain, _ = embedded(program, photos)
    projected, basis = embedded(program, photos, "--pca", count)
    vectors = np.concatenate(list(plain.values()))
    mean = vectors.mean(0)
    variance, axes = np.linalg.eigh(np.cov(vectors.T, bias=True))
    variance, axes = variance[::-1][:count], axes[:, ::-1][:, :count].T
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1, keepdims=True), 1))
    for what, wanted in (("mean", mean), ("components", axes), ("explained_variance", variance)):
        close("--pca", what, basis[what], wanted, 1e-4, differences)
    for stem, values in plain.items():
        close("--pca", stem, projected[stem], (values - mean) @ axes.T, 1e-4, differences)


def projects(program, photos, differences):
    """Matrices of each element type and order."""
    plain, _ = embedded(program, photos)
    matrix = np.random.default_rng(0).normal(size=(7, CHANNELS))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "matrix.npy"
        for dtype, order in product(("f2", "f4", "f8"), "CF"):
            saved = np.asarray(matrix, dtype, order)
            np.save(path, saved)
            projected, _ = embedded(program, photos, "--project", path)
            for stem, values in plain.items():
                wanted = values @ saved.astype(np.float64).T
                close(f"--project {dtype} {order}", stem, projected[stem], wanted, 1e-5, differences)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True, help="the lseg-fast program")
    program = parser.parse_args().binary
    differences = Differences()
    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary)
        for seed, (stem, size) in enumerate(PHOTOS.items()):
            Image.fromarray(seeded.photo(seed, *size)).save(photos / f"{stem}.png")
        one_pass(program, photos, differences)
        presets(program, photos, differences)
        principal(program, photos, differences)
        projects(program, photos, differences)
    print("\n".join([f"{differences.looked} facts looked at", *(differences.lines or ["no differences"])]))
    sys.exit(1 if differences.lines else 0)


if __name__ == "__main__":
    main()
