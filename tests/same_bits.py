#!/usr/bin/env python3
"""Whether two binaries of lseg-fast, before and after a change, write the same bytes.

    cargo xtask vgpu                                  # once: the virtual GPU, where there is no other
    python3 tests/same_bits.py OLD NEW                # both devices, about two minutes on two cores
    VGPU_DEVICE=h100 python3 tests/same_bits.py OLD NEW    # another virtual board: other tiles

Both run the golden networks and the twenty demo scenes on the CPU and on the GPU that OLD finds. Compared byte for byte: masks,
scores, best, overlays, the embeddings of pixels, of points and of labels, and the plan as JSON. The plan's `bytes` of an operation
are an estimate: where they differ it says so and goes on, as with fields that only NEW knows. Exit code 1 on any difference.

That it can fail shows a NEW which asks for something else:

    cat > /tmp/other && chmod +x /tmp/other && python3 tests/same_bits.py OLD /tmp/other
    #!/bin/sh
    case $1 in run|text) more='--template a_{}' ;; embed) more=--normalize ;; plan) more='--labels-count 4' ;; esac
    exec OLD "$@" $more
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/golden"
SCENES = ROOT / "weights/demo/scenes"
# The file: two builds may hold the demo model in different forms.
DEMO = ["--model", ROOT / "weights/demo/demo.safetensors"]
VIRTUAL = ROOT / "target/vgpu"
# What each golden network's file does not tell about its head blocks.
NETWORKS = {
    "vit16": [],
    "vit32": [],
    "resnet": [],
    "vit16_relu": ["--head-block", "depthwise", "--depth", "0", "--activation", "relu"],
}
# The order of sums must not depend on the machine that compares.
THREADS = ["--threads", "2"]
ALL = ["--save", "mask,masks,overlay,scores,best"]
POINTS = "x,y\n0,0\n17.5,3.25\n95,63\n40,31.5\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    arguments = parser.parse_args()
    # Absolute, since both run in folders of their own; a GPU named by the caller goes before the virtual one.
    named = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    os.environ["LD_LIBRARY_PATH"] = ":".join(os.path.abspath(path) for path in named or [VIRTUAL])
    with tempfile.TemporaryDirectory(prefix="same_bits.") as scratch:
        sides = [Side(arguments.old, Path(scratch, "old")), Side(arguments.new, Path(scratch, "new"))]
        sys.exit(int(compare(sides)))


class Side:
    """One binary and the folder of what it writes."""

    def __init__(self, binary, folder):
        self.binary = binary.resolve(strict=True)
        self.folder = folder
        folder.mkdir()
        Path(folder, "points.csv").write_text(POINTS)

    def call(self, *words):
        """Runs it in its folder, so that both sides name the same relative paths."""
        call = [self.binary, *(str(word) for word in words)]
        return subprocess.run(call, cwd=self.folder, capture_output=True, text=True, errors="replace")


def compare(sides):
    """Runs both, and says whether anything differs; prints each difference."""
    devices = ["cpu"]
    # OLD decides whether there is a GPU: a NEW that cannot use it differs.
    gpu = sides[0].call("text", "-q", "--labels", "cat", "--device", "cuda", "--out", "-")
    if gpu.returncode == 0:
        devices.append("cuda")
    else:
        print(f"NO GPU, REAL OR VIRTUAL: ONLY THE CPU IS COMPARED ({gpu.stderr.strip()})")
    different = run_all(sides, "conversion", conversions())
    for device in devices:
        different += run_all(sides, device, frames(device))
    plan_calls = [words for device in devices for words in plans(device)]
    plans_differ = sum(plan_differs(sides, words) for words in plan_calls)
    names = {path.relative_to(side.folder) for side in sides for path in side.folder.rglob("*") if path.is_file()}
    files_differ = sum(file_differs(sides, name) for name in sorted(names))
    different += plans_differ + files_differ
    same = len(names) - files_differ + len(plan_calls) - plans_differ
    print(f"same: {same} files" + (f"; different: {different}" if different else "") + ("" if len(devices) > 1 else " (CPU ALONE)"))
    # A comparison of nothing must not pass.
    return bool(different) or same == 0


def run_all(sides, title, calls):
    start = time.monotonic()
    failed = sum(called(sides, words) for words in calls)
    print(f"{title}: {len(calls)} calls of each in {time.monotonic() - start:.0f} s", flush=True)
    return failed


def called(sides, words):
    """1 where one of them fails."""
    answers = [side.call(*words) for side in sides]
    for side, answer in zip(sides, answers):
        if answer.returncode != 0:
            print(f"failed: {side.binary} {' '.join(map(str, words))}: {answer.stderr.strip()}")
    return int(any(answer.returncode for answer in answers))


def conversions():
    files = [(GOLDEN / name / "model.ckpt", f"{name}.safetensors", flags) for name, flags in NETWORKS.items()]
    return [["convert", "-q", checkpoint, "--out", model, *flags] for checkpoint, model, flags in files]


def frames(device):
    """The calls for one device."""
    common = ["-q", "--device", device, *THREADS]
    calls = []
    for name in NETWORKS:
        photos = [GOLDEN / name / "photo_0.png", GOLDEN / name / "photo_1.png"]
        model = ["--model", f"{name}.safetensors"]
        labels = ["--labels", ",".join(json.loads((GOLDEN / name / "case.json").read_text())["labels"])]
        out = f"{device}/{name}"
        calls += [
            ["run", *photos, *common, *model, *labels, *ALL, "--size", "native", "--out", out],
            ["run", photos[0], *common, *model, *labels, *ALL, "--size", "96x160", "--out", f"{out}/sized"],
            ["text", *common, *model, *labels, "--out", f"{out}/words.npy"],
            *embeddings(photos[0], [*common, *model, "--size", "native"], out),
        ]
    for scene in json.loads((SCENES / "scenes.json").read_text()):
        photo, out = SCENES / f"{scene['scene']}.png", f"{device}/demo"
        # What has no name is in some scenes.
        labels = ",".join([name for name in [*scene["names"], scene["other"]] if name])
        calls += [
            ["run", photo, *common, *DEMO, "--labels", labels, *ALL, "--out", out],
            ["embed", photo, *common, *DEMO, "--out", out],
            ["text", *common, *DEMO, "--labels", labels, "--template", "a photo of a {}", "--out", f"{out}/{scene['scene']}.words.npy"],
        ]
    return calls


def embeddings(photo, common, out):
    photo_sized = ["--at", "photo", "--dtype", "f16"]
    kinds = {"half": [], "full": ["--at", "full"], "photo": photo_sized, "points": ["--points", "points.csv"]}
    return [["embed", photo, *common, *words, "--out", f"{out}/{kind}"] for kind, words in kinds.items()]


def plans(device):
    models = [DEMO] + [["--model", f"{name}.safetensors"] for name in NETWORKS]
    return [["plan", "--json", "--device", device, *model, *size] for model in models for size in ([], ["--size", "96x160"])]


def plan_differs(sides, words):
    """Compares two plans as JSON: all that OLD says but the operations' bytes."""
    answers = [side.call(*words) for side in sides]
    title = " ".join(map(str, words))
    if any(answer.returncode for answer in answers):
        print(f"failed: {title}: {' / '.join(answer.stderr.strip() for answer in answers)}")
        return 1
    old, new = (json.loads(answer.stdout) for answer in answers)
    estimates = [[step.pop("bytes", None) for step in plan["operations"]] for plan in (old, new)]
    if estimates[0] != estimates[1]:
        print(f"note: {title}: the operations' bytes differ")
    more = sorted(keys(new) - keys(old))
    if more:
        print(f"note: {title}: only NEW knows {', '.join(more)}")
    for path, before, after in unlike(old, new, ""):
        print(f"differs: {title}: {path}: {before} against {after}")
        return 1
    return 0


def keys(value):
    """All field names in it."""
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def unlike(old, new, path):
    """Where they differ, but for fields that only `new` has."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            yield from unlike(value, new.get(key), f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new)):
            yield from unlike(before, after, f"{path}[{i}]")
    elif old != new:
        short = [f"{len(value)} entries" if isinstance(value, list) else value for value in (old, new)]
        yield path, *short


def file_differs(sides, name):
    old, new = (contents(side.folder / name) for side in sides)
    if old != new:
        print(f"differs: {name} ({where(old, new)})")
    return int(old != new)


def contents(path):
    return path.read_bytes() if path.is_file() else None


def where(old, new):
    if old is None or new is None:
        return "only NEW wrote it" if old is None else "NEW did not write it"
    if len(old) != len(new):
        return f"{len(old)} bytes against {len(new)}"
    unlike_bytes = [i for i, (a, b) in enumerate(zip(old, new)) if a != b]
    return f"{len(unlike_bytes)} of {len(old)} bytes, the first at {unlike_bytes[0]}"


if __name__ == "__main__":
    main()
