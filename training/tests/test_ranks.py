"""Two processes are one with the double batch: gloo on the CPU."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import call, configuration, environment
from safetensors.torch import load_file
from test_fit import ready

TRAIN = "steps = {steps}\nrate = 0.002\nnegatives = 2\nclip = 0.5\n"


def torchrun(*arguments, processes=2):
    call = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--rdzv-backend", "c10d",
            "--rdzv-endpoint", "localhost:0", "-m", "lseg_train", *map(str, arguments)]  # fmt: skip
    return call


def run(*arguments, **options):
    return subprocess.run(
        torchrun(*arguments, **options), capture_output=True, text=True, env=environment(), timeout=300
    )


def losses(folder):
    return [
        line["loss"] for line in map(json.loads, (folder / "run/log.jsonl").read_text().splitlines()) if "loss" in line
    ]


@pytest.mark.parametrize(("recipe", "rate"), [("published", 0.002), ("finetune", 2e-5)])
def test_losses_are_those_of_one_process(tmp_path, tree, recipe, rate):
    """AdamW divides by the gradient's size: where that is next to nothing, float32's rounding decides a step's sign, so
    that its rate is small here."""
    train = TRAIN.format(steps=20).replace("0.002", str(rate))
    one, two = (
        configuration(tmp_path / n, tree, recipe=recipe, train=train, run="log_every = 1\n") for n in ("one", "two")
    )
    assert call("fit", one).returncode == 0
    done = run("fit", two)
    assert done.returncode == 0, done.stderr
    found, expected = (torch.tensor(losses(tmp_path / n), dtype=torch.float64) for n in ("two", "one"))
    assert len(expected) == 20
    assert ((found - expected).abs() / expected).max() < 1e-4
    both = [load_file(tmp_path / n / "run/last.safetensors") for n in ("one", "two")]
    name = "pretrained.layer1.1.running_var"
    assert torch.allclose(both[0][name], both[1][name], rtol=1e-3)
    miou = [
        [
            line["mean_iou"]
            for line in map(json.loads, (tmp_path / n / "run/log.jsonl").read_text().splitlines())
            if "mean_iou" in line
        ]
        for n in ("one", "two")
    ]
    assert len(miou[0]) == len(miou[1]) == 10 and abs(miou[0][-1] - miou[1][-1]) < 0.02


def test_two_processes_stopped_go_on_to_the_same_bits(tmp_path, tree):
    options = {"train": TRAIN.format(steps=60), "run": "log_every = 1\nminutes = 0\n", "validation": False}
    whole, stopped = (configuration(tmp_path / n, tree, **options) for n in ("whole", "stopped"))
    assert run("fit", whole).returncode == 0
    process = subprocess.Popen(
        torchrun("fit", stopped), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    ready(process, tmp_path / "stopped/run/log.jsonl", 2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=90)
    state = torch.load(tmp_path / "stopped/run/state.pt", weights_only=True)
    assert 2 <= state["step"] < 60
    time.sleep(0.5)
    done = run("fit", stopped)
    assert done.returncode == 0, done.stderr
    one, other = (load_file(tmp_path / n / "run/last.safetensors") for n in ("whole", "stopped"))
    assert [k for k in one if not torch.equal(one[k], other[k])] == []


def test_more_processes_than_photos_are_refused(tmp_path, tree):
    done = run("fit", configuration(tmp_path / "c", tree, train="steps = 2\n", batch=1))
    assert done.returncode != 0 and "2 processes share 8 photos in batches of 1" in done.stderr
    done = run("fit", configuration(tmp_path / "d", tree, train="steps = 2\n", batch=3))
    assert "a multiple of the 2 processes" in done.stderr
