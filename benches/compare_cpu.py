"""lseg-fast, PyTorch eager and ONNX Runtime in turn on one CPU: same weights, photo, labels and thread count.

    cargo build --release --bin lseg-fast --example frame_loop
    python benches/compare_cpu.py --dir /tmp/full_size              # the comparison: vitl16, 480×480, 2 threads
    python benches/compare_cpu.py --dir /tmp/full_size --scaling    # lseg-fast over threads, labels and sizes
    python benches/compare_cpu.py --dir /tmp/full_size --quick      # does it work? small sizes, few runs, no result kept

The folder keeps what is made once: the seeded 1.5 GB checkpoint (tests/golden/full_size.py), its safetensors, the ONNX
graph, the photos. Results go to benches/runs/<date>-<machine>/. See benches/README.md.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
RELEASE = ROOT / "target" / "release"
DECISIVE = 5e-4  # of the scores' range: the tolerance of scores, and what two labels must differ by to count (tests/golden)
AGREEMENT = 0.9999  # of the masks, where decided
PAUSE = 0.5  # s before a turn: the previous one's threads have stopped spinning
LABELS = 10  # of the scaling table, where labels are not what varies
NAMES = {"lseg-fast": "lseg-fast", "pytorch": "PyTorch eager", "onnxruntime": "ONNX Runtime"}


class Worker:
    """A process that computes frames when told to, and so has its own memory and keeps its start out of the times."""

    def __init__(self, call, threads):
        self.call = [str(part) for part in call]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        start = time.perf_counter()
        self.process = subprocess.Popen(
            self.call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )
        self.expect("ready")
        self.ready = time.perf_counter() - start

    def expect(self, word):
        line = self.process.stdout.readline().strip()
        if line != word:
            self.process.kill()
            sys.exit(f"{shlex.join(self.call)}\nexpected {word!r}, got {line!r}; its own words are above")

    def ask(self, order):
        self.process.stdin.write(order + "\n")
        answer = self.process.stdout.readline().strip()
        if not answer:
            sys.exit(f"{shlex.join(self.call)}\nended at {order!r}; its own words are above")
        return answer

    def frame(self):
        return float(self.ask("frame"))

    def fetch(self, what, file):
        """"mask" → uint16 [H, W], "scores" → float32 [N, H, W], by way of a file."""
        shape = [int(side) for side in self.ask(f"{what} {file}").split()]
        return np.load(file) if what == "scores" else np.fromfile(file, "<u2").reshape(shape)

    def end(self):
        """Ends the process; returns the most memory it has had resident, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        self.process.stdin.close()
        self.process.wait()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


# ------------------------------------------------------------------------------------------------- what is made once


def prepare(args):
    """The checkpoint, the facts about it that the PyTorch worker needs, and the converted file."""
    sys.path.append(str(ROOT / "tests" / "golden"))
    import full_size

    if not (args.dir / "model.ckpt").exists():
        print("making the seeded checkpoint", flush=True)
        full_size.make(args.dir)
    (args.dir / "config.json").write_text(json.dumps(full_size.CONFIG))
    np.save(args.dir / "tokens.npy", full_size.tokens().numpy())
    convert = [RELEASE / "lseg-fast", "convert", args.dir / "model.ckpt", "--out", converted(args)]
    subprocess.run([*convert, "--dtype", args.dtype, "--quiet"], check=True, stdout=subprocess.DEVNULL)


def converted(args):
    return args.dir / f"model.{args.dtype}.safetensors"


def photo(args, size):
    """The photo of the golden comparison, squashed to a size where that is another one."""
    file = args.dir / f"photo.{size}.png"
    height, width = (int(side) for side in size.split("x"))
    with Image.open(args.dir / "photo.png") as image:
        image.resize((width, height), Image.Resampling.BILINEAR).save(file)
    return file


def lseg_fast(args, size, labels, threads):
    options = ["--photo", photo(args, size), "--labels", labels, "--threads", threads, "--device", "cpu"]
    return [RELEASE / "examples" / "frame_loop", "--model", converted(args), *options]


def contender(args, role, *options):
    call = [sys.executable, ROOT / "benches" / "contenders.py", role, "--dir", args.dir, "--threads", args.threads]
    return [*call, "--photo", photo(args, args.size), "--onnx", graph(args), *options]


def graph(args):
    return args.dir / f"onnx.{args.size}" / "model.onnx"


def fastest_form(args):
    """Tries the forms of the eager model in a process of their own: (the fastest, seconds of each)."""
    call = [str(part) for part in contender(args, "trial")]
    seconds = json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE).stdout)
    return min(seconds, key=seconds.get), seconds


# ---------------------------------------------------------------------------------------------------- the comparison


def compare(args):
    if not graph(args).exists():
        print("exporting the ONNX graph", flush=True)
        subprocess.run([str(part) for part in contender(args, "export")], check=True, stdout=subprocess.DEVNULL)
    form, trials = fastest_form(args)
    print(f"PyTorch's forms, s: {trials}; taken: {form}", flush=True)
    calls = {
        "lseg-fast": lseg_fast(args, args.size, f"@{args.dir / 'labels.txt'}", args.threads),
        "pytorch": contender(args, "pytorch", "--form", form),
        "onnxruntime": contender(args, "onnxruntime"),
    }
    workers, ready = start_in_turn(args, calls)
    warm_up = {name: worker.frame() for name, worker in workers.items()}
    agreement = agree(args, workers)
    seconds = {name: [] for name in workers}
    for run in range(args.runs):
        for name, worker in workers.items():
            time.sleep(PAUSE)
            seconds[name].append(worker.frame())
        print(f"run {run + 1}: " + ", ".join(f"{name} {s[-1]:.2f} s" for name, s in seconds.items()), flush=True)
    peak = {name: worker.end() for name, worker in workers.items()}
    return {
        "pytorch_forms_s": trials, "pytorch_form": form, "agreement": agreement, "ready_s": ready,
        "warm_up_s": warm_up, "seconds": seconds, "peak_bytes": peak,
    }  # fmt: skip


def start_in_turn(args, calls):
    """Starts every contender `--starts` times in turn and keeps the last: (workers, seconds to ready of each start).
    What comes before has read every file, so that they are in memory."""
    ready = {name: [] for name in calls}
    for start in range(args.starts):
        workers = {}
        for name, call in calls.items():
            time.sleep(PAUSE)
            worker = Worker(call, args.threads)
            ready[name].append(worker.ready)
            if start + 1 < args.starts:
                worker.end()
            workers[name] = worker
    return workers, ready


def agree(args, workers):
    """Compares what the contenders compute; ends the program where that is not the same function."""
    reference = workers["pytorch"].fetch("scores", args.dir / "scores.pytorch.npy")
    span = float(reference.max() - reference.min())
    second, best = np.sort(reference, axis=0)[-2:]
    decided = best - second > DECISIVE * span
    same = {}
    for name, worker in workers.items():
        mask = worker.fetch("mask", args.dir / f"mask.{name}.raw")
        same[name] = float((mask == reference.argmax(0))[decided].mean())
    graph_scores = workers["onnxruntime"].fetch("scores", args.dir / "scores.onnxruntime.npy")
    error = float(np.abs(graph_scores - reference).max()) / span
    print(f"ONNX Runtime's largest error: {error:.1e} of the scores' range; masks equal where decided: {same}")
    if min(same.values()) < AGREEMENT or error > DECISIVE:
        sys.exit("the contenders do not compute the same; nothing was timed")
    shares = (np.bincount(reference.argmax(0).ravel(), minlength=len(reference)) / decided.size).tolist()
    return {"masks_equal_where_decided": same, "decided": float(decided.mean()), "label_shares": shares,
            "onnxruntime_error_of_range": error}  # fmt: skip


def comparison_table(args, result):
    median = {name: statistics.median(seconds) for name, seconds in result["seconds"].items()}
    rows = [["", "median s", tail(args.runs), "of PyTorch's", "of ONNX Runtime's", "peak MB", "ready s"]]
    for name, seconds in result["seconds"].items():
        worst = float(np.percentile(seconds, 99)) if args.runs >= 100 else max(seconds)
        ratios = [f"{median[name] / median[other]:.2f}" for other in ("pytorch", "onnxruntime")]
        peak, ready = result["peak_bytes"][name] / 1e6, statistics.median(result["ready_s"][name])
        rows.append([NAMES[name], f"{median[name]:.2f}", f"{worst:.2f}", *ratios, f"{peak:,.0f}", f"{ready:.1f}"])
    same, forms = result["agreement"], result["pytorch_forms_s"]
    notes = [
        f"vitl16, seeded weights ({args.dtype} types for lseg-fast), {args.size}, {len(same['label_shares'])} labels "
        f"encoded beforehand, {args.threads} threads, {args.runs} runs in turn after a warm-up each.",
        f"PyTorch's form: {result['pytorch_form']}, the fastest of "
        + ", ".join(f"{form} {seconds:.2f} s" for form, seconds in forms.items()) + ".",
        f"Masks equal where the two best labels differ by more than {DECISIVE:g} of the range "
        f"({same['decided']:.1%} of the pixels): "
        + ", ".join(f"{NAMES[name]} {part:.3%}" for name, part in same["masks_equal_where_decided"].items())
        + f". ONNX Runtime's largest error: {same['onnxruntime_error_of_range']:.1e} of the range.",
        f"Ready: process start to labels encoded, files in memory, median of {args.starts} starts; ONNX Runtime is "
        "given the text features. Peak: VmHWM of the process, mapped files included.",
    ]  # fmt: skip
    return rows, notes


def tail(runs):
    return "p99 s" if runs >= 100 else f"max of {runs} s"


# ------------------------------------------------------------------------------------------------------- the scaling


def scaling_cases(args):
    """(threads, labels, size): each varied around --threads, LABELS and --size."""
    few = args.quick
    sizes = ("96x128", "128x128") if few else ("256x256", "480x480", "480x640", "768x768", "1024x1024", "1088x1920")
    cases = [(threads, LABELS, args.size) for threads in (1, 2)]
    cases += [(args.threads, labels, args.size) for labels in ((1, 100) if few else (1, 10, 100, 1000))]
    cases += [(args.threads, LABELS, size) for size in sizes]
    return list(dict.fromkeys(cases))


def scale(args):
    results = []
    for threads, labels, size in scaling_cases(args):
        words = args.dir / f"words.{labels}.txt"
        words.write_text("".join(f"thing number {i}\n" for i in range(labels)))
        worker = Worker(lseg_fast(args, size, f"@{words}", threads), threads)
        worker.frame()
        seconds = [worker.frame()]
        while len(seconds) < args.runs and sum(seconds) + seconds[-1] < args.budget:
            seconds.append(worker.frame())
        case = {"threads": threads, "labels": labels, "size": size, "ready_s": worker.ready, "seconds": seconds}
        results.append(case | {"peak_bytes": worker.end()})
        print(f"{threads} threads, {labels} labels, {size}: {statistics.median(seconds):.2f} s", flush=True)
    return results


def scaling_table(args, results):
    rows = [["size (height x width)", "labels", "threads", "median s", "max s", "runs", "peak MB", "ready s"]]
    for case in results:
        seconds, peak = case["seconds"], f"{case['peak_bytes'] / 1e6:,.0f}"
        times = [f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}", str(len(seconds))]
        first = [case["size"], str(case["labels"]), str(case["threads"])]
        rows.append([*first, *times, peak, f"{case['ready_s']:.1f}"])
    notes = [
        f"lseg-fast alone, vitl16, seeded weights ({args.dtype} types), mask only; a fresh process and a warm-up each, "
        f"then {args.runs} runs or what {args.budget:g} s allow. Ready includes encoding the labels."
    ]
    return rows, notes


# ---------------------------------------------------------------------------------------------------------- results


def machine():
    """What the numbers depend on, beside the command."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    packages = ("torch", "onnxruntime", "onnx", "numpy")
    return {
        "cpu": cpu[1] if cpu else os.uname().machine,
        "logical_cpus": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "load_average_before": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
        "versions": {"python": sys.version.split()[0]} | {p: importlib.metadata.version(p) for p in packages},
    }


def command():
    """As typed, but for where on this machine things lie."""
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    return f"python benches/compare_cpu.py {shlex.join(words)}"


def markdown(title, about, rows, notes):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [[cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))] for row in rows]
    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    facts = (
        f"{about['cpu']}, {about['logical_cpus']} logical CPUs, {about['memory_gb']} GB; load average before "
        f"{about['load_average_before']:.2f}; commit {about['commit']}; {versions}."
    )
    return f"# {title}\n\n    {command()}\n\n{facts}\n\n{table}\n\n" + "\n\n".join(notes) + "\n"


def keep(args, name, title, about, result, table):
    text = markdown(title, about, *table)
    print(f"\n{text}")
    if args.quick:
        return
    slug = args.machine or re.sub(r"[^a-z0-9]+", "-", f"{about['cpu']} {about['logical_cpus']} cpus".lower()).strip("-")
    folder = ROOT / "benches" / "runs" / f"{datetime.date.today()}-{slug}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {key: getattr(args, key) for key in ("threads", "size", "runs", "starts", "dtype", "budget")}
    record = {"command": command(), "machine": about, "settings": settings, "result": result}
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(f"kept in {folder.relative_to(ROOT)}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="where the checkpoint and what is made of it lie")
    parser.add_argument("--scaling", action="store_true", help="lseg-fast alone over threads, labels and sizes")
    parser.add_argument("--quick", action="store_true", help="does it work? small, one run, nothing kept")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default="480x480", help="HEIGHTxWIDTH, multiples of 32")
    parser.add_argument("--runs", type=int, help="timed frames of each (default: 20, with --scaling 5)")
    parser.add_argument("--starts", type=int, default=3, help="starts of each, for the time to ready")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of frames for a row of --scaling")
    parser.add_argument("--dtype", choices=("source", "f16", "f32"), default="source", help="of lseg-fast's file")
    parser.add_argument("--machine", help="its name for the results' folder (default: from the CPU)")
    args = parser.parse_args()
    if args.quick:
        args.size, args.runs, args.starts = "96x128", 1, 1
    args.runs = args.runs or (5 if args.scaling else 20)
    return args


def main():
    args = arguments()
    about = machine()
    args.dir.mkdir(parents=True, exist_ok=True)
    prepare(args)
    if args.scaling:
        results = scale(args)
        keep(args, "scaling_cpu", "lseg-fast by size, labels and threads", about, results, scaling_table(args, results))
    else:
        result = compare(args)
        title = "lseg-fast, PyTorch eager and ONNX Runtime in turn"
        keep(args, "compare_cpu", title, about, result, comparison_table(args, result))


if __name__ == "__main__":
    main()
