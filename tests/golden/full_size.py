"""One comparison at full size: vitl16 at 480×480, five labels, seeded weights (a 1.5 GB checkpoint), PyTorch float32
against the `lseg-fast` program.

    python tests/golden/full_size.py --dir /tmp/full_size                                   # PyTorch's side alone
    python tests/golden/full_size.py --dir /tmp/full_size --bin target/release/lseg-fast    # both, and the table
    python tests/golden/full_size.py --dir DIR --bin PROGRAM --device cuda --runs 0         # agreement alone, in float16

On the virtual GPU (LD_LIBRARY_PATH=target/vgpu after `cargo xtask vgpu`) the last takes minutes.
The folder keeps model.ckpt, photo.png, labels.txt and scores.npy (PyTorch's [N, H, W]) for the next run.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import published
import seeded
from clip_tokens import tokenizer
from full_size_case import CONFIG, FLOAT16, LABELS, SEED, SIDE
from generate import DECISIVE, tolerance
from lseg_reference import Lseg

PHOTO = Path(__file__).parents[2] / "weights" / "photos" / "cat.jpg"
# By device: see full_size_case.FLOAT16, which is what CUDA computes in.
LIMITS = {"cpu": (tolerance("scores"), DECISIVE, 0.9999), "cuda": FLOAT16}


def make(folder):
    """Writes the checkpoint, the photo at the network's size and the labels."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.open(PHOTO).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    image.save(folder / "photo.png")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    model = seeded.fill(Lseg(CONFIG), SEED)
    model.load_state_dict({k.removeprefix("net."): v for k, v in as_published(model).items()})
    with torch.no_grad():
        text = model.clip_pretrained(tokens())
        path1 = model.decode(model.encode(model.normalise(pixels(folder)))[1])
        seeded.centre(model, path1[..., ::3, ::3], text, SEED + 1)
    # Under another name first: an interrupted run leaves no half checkpoint behind.
    part = folder / "model.ckpt.part"
    published.save(part, as_published(model), "attribute_dict", CONFIG["head_block"])
    part.rename(folder / "model.ckpt")


def as_published(model):
    return published.state_dict(model, torch.float16, torch.float32)


def tokens():
    return tokenizer(CONFIG["text"]["vocab"])(LABELS)


def pixels(folder):
    return np.array(Image.open(folder / "photo.png"))[None]


@torch.no_grad()
def run_pytorch(folder, runs):
    """Scores [N, H, W] (also stored) and the seconds of each image forward, text features made beforehand."""
    model = published.load(folder / "model.ckpt", Lseg(CONFIG))
    text, photo, seconds = model.clip_pretrained(tokens()), pixels(folder), []
    for _ in range(runs + 1):
        start = time.perf_counter()
        scores = model.score(model.decode(model.encode(model.normalise(photo))[1]), text)[2]
        mask = scores.argmax(1)
        seconds.append(time.perf_counter() - start)
    shares = seeded.label_shares(scores)[0]
    assert mask.unique().numel() == len(LABELS) and shares.min() > 0.03, f"a label hardly wins anywhere: {shares}"
    np.save(folder / "scores.npy", scores[0].numpy())
    return scores[0].numpy(), seconds[1:], [round(s, 3) for s in shares.tolist()]


def run_program(folder, program, device, runs):
    """Scores, and rows of the seconds of a call and of what each photo after the first adds to it. Without runs no seconds."""
    converted = folder / "model.safetensors"
    checked([program, "convert", folder / "model.ckpt", "--out", converted])
    one, many = folder / "one", folder / "many"
    for photos, count in ((one, 1), (many, 1 + runs))[: 1 + (runs > 0)]:
        shutil.rmtree(photos, ignore_errors=True)
        photos.mkdir()
        for i in range(count):
            shutil.copy(folder / "photo.png", photos / f"photo{i}.png")
    call = [program, "run", "--model", converted, "--labels", ",".join(LABELS)]
    call += ["--save", "mask,scores", "--size", "native", "--device", device]
    first = checked([*call, one, "--out", folder / "out"])
    rows = []
    if runs:
        each = (checked([*call, many, "--out", folder / "out"]) - first) / runs
        rows = [
            ("lseg-fast, s a further photo (files included)", f"{each:.2f}"),
            ("lseg-fast, s a call of one photo (load and text included)", f"{first:.2f}"),
        ]
    mask = np.array(Image.open(folder / "out" / "photo0.mask.png"))
    scores = np.load(folder / "out" / "photo0.scores.npy")
    assert (mask == scores.argmax(0)).mean() > 0.9999, "the written mask is not the argmax of the written scores"
    return scores, rows


def checked(call):
    """Runs a command, shows what it prints, returns its seconds."""
    call = [str(part) for part in call]
    print("$", " ".join(call), flush=True)
    start = time.perf_counter()
    subprocess.run(call, check=True)
    return time.perf_counter() - start


def compare(reference, got, decisive):
    """(largest error over the reference's range, agreement of the masks, agreement where decided, part decided)."""
    assert got.shape == reference.shape and got.dtype == np.float32, f"{got.shape} {got.dtype} for {reference.shape}"
    span = float(reference.max() - reference.min())
    error = float(np.abs(got - reference).max()) / span
    second, best = np.sort(reference, axis=0)[-2:]
    decided = best - second > decisive * span
    same = got.argmax(0) == reference.argmax(0)
    return error, float(same.mean()), float(same[decided].mean()), float(decided.mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="where the 1.5 GB checkpoint lives or is made")
    parser.add_argument("--bin", type=Path, help="the lseg-fast program to compare with")
    parser.add_argument("--device", choices=LIMITS, default="cpu", help="where the program computes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="PyTorch's threads")
    parser.add_argument("--runs", type=int, default=3, help="timed runs on either side; 0: no times")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not (args.dir / "model.ckpt").exists():
        make(args.dir)
    reference, seconds, shares = run_pytorch(args.dir, args.runs)
    print(f"PyTorch {torch.__version__}, float32, {args.threads} threads: label shares {shares}")
    rows = []
    if seconds:
        rows = [("PyTorch image forward, median s", f"{statistics.median(seconds):.2f}")]
        rows += [("PyTorch image forward, each s", " ".join(f"{s:.2f}" for s in seconds))]
    passed = True
    if args.bin:
        most_error, decisive, agreement = LIMITS[args.device]
        scores, times = run_program(args.dir, args.bin, args.device, args.runs)
        error, overall, where_decided, decided = compare(reference, scores, decisive)
        passed = error <= most_error and where_decided >= agreement
        rows += times + [
            ("largest error of the scores / their range", f"{error:.2e}"),
            ("masks agree, all pixels", f"{overall:.4%}"),
            (f"masks agree where the two best differ by > {decisive:g} of the range", f"{where_decided:.4%}"),
            ("such pixels", f"{decided:.2%}"),
            ("verdict", "within tolerance" if passed else "OUT OF TOLERANCE"),
        ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"| {name:<{width}} | {value} |")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
