"""`lseg-fast eval` on drawn scenes against scikit-learn on the masks that `lseg-fast run` writes for them.

pip install -r requirements.txt scikit-learn==1.9.1

    python weights/train/scene_files.py SCENES
    python tests/golden/eval_scenes.py SCENES --binary target/release/lseg-fast
    python tests/golden/eval_scenes.py SCENES --binary PROGRAM --times 3       # and what eval takes beside its engine
    python tests/golden/eval_scenes.py SCENES --binary PROGRAM -- --size 96x96 # options of both

Numbers must be within 1e-6, counts equal. Beside the engine is what no thread named `lseg-cpu-*` does: loading, reading
photos and masks, counting, printing; at most 3 % of the CPU time may be that. Times are of Linux alone (`/proc`).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

UNLABELLED = 255  # in masks of scene_files.py
CLOSE = 1e-6
MOST_BESIDE = 0.03  # of eval's CPU time
ENGINE = "lseg-cpu-"  # its threads' names
LOOK = 0.02  # seconds between two looks at them


def eval_call(program, scenes, options):
    data = ["--data", "folders", "--images", scenes / "images", "--masks", scenes / "masks", "--ignore", UNLABELLED]
    return [program, "eval", *data, "--labels", f"@{scenes / 'labels.txt'}", "--json", "-q", *options]


def run_call(program, scenes, out, options):
    save = ["--save", "mask", "--out", out, "--json", "-q"]
    return [program, "run", scenes / "images", "--labels", f"@{scenes / 'labels.txt'}", *save, *options]


def said(call):
    """Its objects; stops where it fails."""
    done = subprocess.run([str(part) for part in call], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, call))}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


# ------------------------------------------------------------------------------------------------------------ comparing


def pixels(scenes, out):
    """→ (true, predicted) of all pixels with a label."""
    true, predicted = [], []
    for path in sorted((scenes / "masks").glob("*.png")):
        truth, mask = np.array(Image.open(path)), np.array(Image.open(out / f"{path.stem}.mask.png"))
        assert truth.shape == mask.shape, f"{path.stem}: {truth.shape} is true, {mask.shape} is predicted"
        true.append(truth[truth != UNLABELLED])
        predicted.append(mask[truth != UNLABELLED])
    return np.concatenate(true), np.concatenate(predicted)


def expected(true, predicted, labels):
    """What eval's JSON should say, by the names of docs/json.md, and the confusion matrix."""
    each = range(len(labels))
    matrix = confusion_matrix(true, predicted, labels=each)
    iou = jaccard_score(true, predicted, labels=each, average=None, zero_division=0)
    there = (matrix.sum(0) + matrix.sum(1)) > 0
    numbers = {
        "labelled": len(true),
        "pixel_accuracy": accuracy_score(true, predicted),
        "mean_iou": jaccard_score(true, predicted, labels=each, average="macro", zero_division=0),
        "mean_iou_present": iou[there].mean(),
        "frequency_weighted_iou": jaccard_score(true, predicted, labels=each, average="weighted", zero_division=0),
    }
    for i, label in enumerate(labels):
        numbers[f"iou of {label}"] = iou[i] if there[i] else None
        numbers[f"pixels of {label}"] = matrix[i].sum()
        numbers[f"predicted of {label}"] = matrix[:, i].sum()
    return numbers, matrix


def reported(answer):
    """The same names out of eval's JSON."""
    totals = ("labelled", "pixel_accuracy", "mean_iou", "mean_iou_present", "frequency_weighted_iou")
    numbers = {name: answer[name] for name in totals}
    for label in answer["labels"]:
        numbers |= {f"{field} of {label['label']}": label[field] for field in ("iou", "pixels", "predicted")}
    return numbers


def agree(got, wanted):
    if got is None or wanted is None or isinstance(wanted, (int, np.integer)):
        return got == wanted
    return abs(got - wanted) <= CLOSE


def differences(got, wanted):
    """One line for each name whose numbers differ."""
    names = sorted(got.keys() | wanted.keys())
    pairs = {name: (got.get(name, "missing"), wanted.get(name, "missing")) for name in names}
    missing = {name for name in names if "missing" in map(str, pairs[name])}
    wrong = [name for name in names if name in missing or not agree(*pairs[name])]
    return [f"{name}: eval has {pairs[name][0]}, scikit-learn {pairs[name][1]}" for name in wrong]


def compare(program, scenes, options):
    """Prints the table; → lines about what differs."""
    labels = (scenes / "labels.txt").read_text().splitlines()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        ran = said(run_call(program, scenes, out, options))
        call = eval_call(program, scenes, options)
        (answer,) = said([*call, "--confusion", out / "confusion.npy"])
        (again,) = said([*eval_call(program, scenes, []), "--predictions", out])
        wanted, matrix = expected(*pixels(scenes, out), labels)
        found = np.load(out / "confusion.npy")
    got = reported(answer)
    wrong = differences(got, wanted)
    if not np.array_equal(found, matrix):
        wrong.append(f"confusion: {np.count_nonzero(found != matrix)} of {matrix.size} counts differ")
    if answer["photos"] != len(ran):
        wrong.append(f"photos: eval has {answer['photos']}, run {len(ran)}")
    if again != answer:
        wrong.append("predictions: eval of run's masks says something else")
    print(f"{answer['photos']} photos, {len(labels)} labels, {len(wanted) + 1} names compared\n")
    print("| | eval | scikit-learn | difference |\n|---|---:|---:|---:|")
    for name in ("pixel_accuracy", "mean_iou", "mean_iou_present", "frequency_weighted_iou"):
        print(f"| {name} | {got[name]:.9f} | {wanted[name]:.9f} | {abs(got[name] - wanted[name]):.1e} |")
    both = [(got[name], iou) for name, iou in wanted.items() if name.startswith("iou of")]
    errors = [abs(one - other) for one, other in both if None not in (one, other)]
    print(f"| iou, the worst of {len(errors)} labels | | | {max(errors):.1e} |", flush=True)
    return wrong


# -------------------------------------------------------------------------------------------------------------- timing


def thread_seconds(pid):
    """CPU seconds of each thread of a process: id → (name, seconds)."""
    seconds = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            name, ran = (task / "comm").read_text().strip(), (task / "schedstat").read_text().split()[0]
        except (OSError, IndexError):  # it has just ended
            continue
        seconds[task.name] = (name, int(ran) / 1e9)
    return seconds


def timed(call, log):
    """→ (wall seconds, CPU seconds, those of its engine's threads) of a call."""
    start, threads = time.perf_counter(), {}
    with open(log, "wb") as output:
        child = subprocess.Popen([str(part) for part in call], stdout=output, stderr=subprocess.DEVNULL)
        while True:
            threads |= thread_seconds(child.pid)
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(LOOK)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, f"{call} ends with {child.returncode}"
    engine = sum(seconds for name, seconds in threads.values() if name.startswith(ENGINE))
    return wall, usage.ru_utime + usage.ru_stime, engine


def stage_seconds(log):
    """Of run's objects: (the engine's stages, reading photos, saving), in seconds of the clock."""
    totals = {}
    for line in Path(log).read_text().splitlines():
        for stage in json.loads(line)["stages"]:
            totals[stage["stage"]] = totals.get(stage["stage"], 0) + stage["milliseconds"] / 1e3
    read, save = totals.pop("decode"), totals.pop("save")
    return sum(totals.values()), read, save


def measure(program, scenes, options, times):
    """Eval and run in turns; prints a row each, → the median share of eval's CPU time beside its engine."""
    columns = "pair|eval: wall|CPU|of its engine's threads|beside|share|CPU with --predictions"
    columns = f"{columns}|run: wall|CPU|engine's stages, wall|read|save|load".split("|")
    print("\nSeconds; the load is the machine's over a minute, at the end of a pair.\n")
    print(f"| {' | '.join(columns)} |\n{'|---:' * len(columns)}|", flush=True)
    shares = []
    with tempfile.TemporaryDirectory() as temporary:
        out, log = Path(temporary), Path(temporary) / "log"
        for pair in range(1, times + 1):
            wall, cpu, engine = timed(eval_call(program, scenes, options), log)
            run_wall, run_cpu, _ = timed(run_call(program, scenes, out, options), log)
            stages, read, save = stage_seconds(log)
            _, counting, _ = timed([*eval_call(program, scenes, []), "--predictions", out], log)
            shares.append((cpu - engine) / cpu)
            first = [f"{seconds:.2f}" for seconds in (wall, cpu, engine, cpu - engine)]
            last = [f"{seconds:.2f}" for seconds in (counting, run_wall, run_cpu, stages, read, save)]
            cells = [str(pair), *first, f"{shares[-1]:.2%}", *last, f"{os.getloadavg()[0]:.1f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    return statistics.median(shares)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="a folder of scene_files.py")
    parser.add_argument("--binary", type=Path, required=True, help="the lseg-fast program")
    parser.add_argument("--times", type=int, default=0, help="so many timed pairs of eval and run [0]")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:end])
    options = ["--device", "cpu", *sys.argv[end + 1 :]]
    wrong = compare(args.binary, args.scenes, options)
    if args.times:
        share = measure(args.binary, args.scenes, options, args.times)
        print(f"\nmedian: {share:.2%} of eval's CPU time is beside its engine, at most {MOST_BESIDE:.0%} is wanted")
        if share > MOST_BESIDE:
            wrong.append(f"beside: {share:.2%} is more than {MOST_BESIDE:.0%}")
    print("\n" + "\n".join(wrong or ["no differences"]))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
