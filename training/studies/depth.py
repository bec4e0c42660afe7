"""Study of spatial regularisation: which start, depth and activation of the head block learns, and which collapses.

    cd training && python -m studies.depth --processes 2    # two to three hours of two cores; goes on where it was
    cd training && python -m studies.depth --report         # markdown to stdout
    cd training && python -m studies.depth --paths --only 'depthwise-4-lrelu-late*'

docs/regularisation.md has the answers."""

import argparse
import fnmatch
import functools
import json
import multiprocessing
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch

from lseg_train.errors import Refused
from studies import depth_report, depth_run, depth_scenes
from studies.depth_table import Job, table


def read(path):
    """The finished runs in a file, which may end in half a line."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def mend(path):
    """Takes half a line that a kill left off the end, so that the next one begins on its own."""
    if path.exists():
        whole = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(whole.rfind(b"\n") + 1)


def job_of(result):
    return Job(**{field.name: result[field.name] for field in fields(Job)})


def left(jobs, results):
    """Those that no result has."""
    done = {job_of(result) for result in results}
    return [job for job in jobs if job not in done]


def alone():
    """A process of the pool has one core."""
    torch.set_num_threads(1)


def work(scenes_path, job):
    return depth_run.run(asdict(job), loaded(scenes_path))


@functools.cache
def loaded(path):
    """The pictures' arrays, once a process."""
    with np.load(path) as file:
        return dict(file)


def study(jobs, scenes_path, results_path, processes):
    """Appends a line for each run that the file does not have yet."""
    depth_scenes.make(scenes_path)
    mend(results_path)
    todo = left(jobs, read(results_path))
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=alone) as pool, results_path.open("a") as file:
        for count, result in enumerate(pool.imap_unordered(functools.partial(work, scenes_path), todo), 1):
            file.write(json.dumps(result, separators=(",", ":")) + "\n")
            file.flush()
            what = f"{job_of(result).cell} {result['seed']}"
            print(f"{count}/{len(todo)} {what}: mIoU {result['miou']}, {result['cpu_seconds']} s", flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=depth_scenes.PATH.with_suffix(".jsonl"))
    parser.add_argument("--scenes", type=Path, default=depth_scenes.PATH, help="drawn where missing")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cells, as 'depthwise-4-*'; more than once")
    parser.add_argument("--processes", type=int, default=1, help="one core each")
    parser.add_argument("--list", action="store_true", help="cells and seeds, without running them")
    parser.add_argument("--report", action="store_true", help="tables of what is there")
    parser.add_argument("--paths", action="store_true", help="what was logged of each run, as tables")
    chosen = parser.parse_args(arguments)
    jobs = [j for j in table() if not chosen.only or any(fnmatch.fnmatch(j.cell, p) for p in chosen.only)]
    try:
        if not jobs:
            raise Refused(f"no cell is called {' or '.join(chosen.only)}; --list has them")
        if chosen.report:
            print(depth_report.report(read(chosen.results)))
        elif chosen.paths:
            print(depth_report.paths([r for r in read(chosen.results) if job_of(r) in jobs]))
        elif chosen.list:
            print("\n".join(f"{job.cell} {job.seed}" for job in jobs))
        else:
            study(jobs, chosen.scenes, chosen.results, chosen.processes)
    except Refused as refused:
        raise SystemExit(str(refused)) from None


if __name__ == "__main__":
    main()
