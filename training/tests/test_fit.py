"""Runs as their users start them: learned by heart, stopped and gone on with, exported, judged by the program."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import DEMO, call, command, configuration, environment
from safetensors.torch import load_file

from scenes import painted

from lseg_train import fit as fitting
from lseg_train.config import read
from lseg_train.errors import Refused

BY_HEART = "steps = 300\nepoch_samples = 400\ndecoder_rate = 1.0\nmirror = false\n"


def lines(folder):
    return [json.loads(line) for line in (folder / "run/log.jsonl").read_text().splitlines()]


def weights(path):
    return load_file(path)


def same(one, other):
    assert one.keys() == other.keys()
    return [k for k in one if not torch.equal(one[k], other[k])]


@pytest.mark.parametrize(("encoder", "rate"), [("resnet", 0.004), ("vit", 0.002)])
def test_eight_scenes_are_learned_by_heart(tmp_path, encoder, rate):
    """A ViT of 64 channels sees patches of 16 pixels through 64 numbers: the scenes' corners lie on its patches."""
    tree = painted(tmp_path / "tree", sizes=[(64, 64)], grid=16)
    path = configuration(tmp_path / "c", tree, encoder=encoder, train=f"rate = {rate}\n{BY_HEART}", batch=8)
    path.write_text(path.read_text().replace("base = 80\nscales = [0.8, 1.2]", "base = 64\nscales = [1.0, 1.0]"))
    start = time.monotonic()
    done = call("fit", path)
    assert done.returncode == 0, done.stderr
    found = [line["mean_iou"] for line in lines(tmp_path / "c") if "mean_iou" in line]
    assert max(found) >= 0.95, found
    assert time.monotonic() - start < 180


STEPS = "steps = 8\nepoch_samples = 8\nrate = 0.002\nema = 0.9\nnegatives = 2\nleave_out = 0.2\n"
BLOCK = '\n[model.head_block]\nkind = "bottleneck"\ndepth = 2\nafter = 3\n'


def ready(process, log, step):
    """Waits until the run's log tells of a step."""
    for _ in range(6000):
        if log.exists() and any(
            json.loads(line)["step"] >= step for line in log.read_text().splitlines() if line.endswith("}")
        ):
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    raise AssertionError("the run does not get on")


def started(path, step, signals="--default-signal=INT,TERM"):
    """`fit`, when its log tells of a step. Signals as `env` is told: these tests may have been started in the background,
    with some ignored."""
    process = subprocess.Popen(
        ["env", signals, *command("fit", path)],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    ready(process, path.parent / "run/log.jsonl", step)
    return process


def interrupted(path, number, step):
    """Starts a run and sends a signal after a step -> (exit code, stderr)."""
    process = started(path, step)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, tree, number):
    # A state after every step, however fast they are; and so many that the signal comes before the end.
    run, train = "log_every = 1\nminutes = 0\n", STEPS.replace("= 8", "= 40").replace("steps = 40", "steps = 60")
    whole, stopped = (
        configuration(tmp_path / n, tree, encoder="vit", train=train, run=run, model=BLOCK)
        for n in ("whole", "stopped")
    )
    assert call("fit", whole).returncode == 0
    code, said = interrupted(stopped, number, 3)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number), said
    state = torch.load(tmp_path / "stopped/run/state.pt", weights_only=True)
    assert 2 <= state["step"] < 60
    done = call("fit", stopped)
    assert done.returncode == 0, done.stderr
    assert same(*(weights(tmp_path / n / "run/last.safetensors") for n in ("whole", "stopped"))) == []
    told = [
        [{k: line.get(k) for k in ("step", "loss", "mean_iou", "gain")} for line in lines(tmp_path / n)]
        for n in ("whole", "stopped")
    ]
    without_loss = [[line["step"] for line in t] for t in told]
    assert without_loss[0] == without_loss[1]
    assert told[0][-1] == told[1][-1]
    assert sorted(p.name for p in (tmp_path / "whole/run").iterdir()) == sorted(
        p.name for p in (tmp_path / "stopped/run").iterdir()
    )
    assert len(list((tmp_path / "whole/run").glob("best-*"))) == 3
    assert not list((tmp_path / "stopped/run").glob("*.part"))


def test_a_signal_that_was_ignored_at_the_start_stays_so(tmp_path, tree):
    """As a script starts what ends in `&`."""
    path = configuration(tmp_path / "c", tree, train=STEPS, run="log_every = 1\n", validation=False)
    process = started(path, 2, "--ignore-signal=INT")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, process.stderr.read()


def test_a_state_of_another_configuration_is_refused(tmp_path, tree):
    path = configuration(tmp_path / "c", tree, train=STEPS)
    assert call("fit", path).returncode == 0
    text = path.read_text()
    path.write_text(text.replace("rate = 0.002", "rate = 0.003").replace("leave_out = 0.2", "leave_out = 0.1"))
    done = call("fit", path)
    assert done.returncode == 1 and "train.leave_out, train.rate differ" in done.stderr
    path.write_text(text + "log_every = 5\n")  # what weights do not depend on
    assert call("fit", path).returncode == 0
    (tmp_path / "c/run/state.pt").write_bytes(b"no state")
    done = call("fit", path)
    assert done.returncode == 1 and "state.pt cannot be read" in done.stderr


def test_a_validation_that_the_state_does_not_know_is_told_once(tmp_path, tree):
    """Killed between a validation and the state behind it: it is made again, and stands in the log once."""
    path = configuration(tmp_path / "c", tree, train=STEPS)
    assert call("fit", path).returncode == 0
    before = lines(tmp_path / "c")
    state = torch.load(tmp_path / "c/run/state.pt", weights_only=True)
    torch.save(state | {"judged": 6, "best": state["best"][:2]}, tmp_path / "c/run/state.pt")
    assert call("fit", path).returncode == 0
    assert lines(tmp_path / "c") == before


def test_an_out_that_is_a_file_is_told_in_a_line(tmp_path, tree):
    path = configuration(tmp_path / "c", tree, train=STEPS)
    (tmp_path / "c/run").write_text("a file")
    done = call("fit", path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_the_log_tells_what_is_looked_for(tmp_path, tree):
    path = configuration(tmp_path / "c", tree, train=STEPS, run="log_every = 2\n", model=BLOCK)
    assert call("fit", path).returncode == 0
    steps = [line for line in lines(tmp_path / "c") if "loss" in line]
    assert [line["step"] for line in steps] == [2, 4, 6, 8]
    for key in ("loss", "rate", "photos_per_second", "memory", "gain", "bias", "not_finite", "gradient"):
        assert key in steps[0]
    assert steps[0]["gain"] == [1.0] and steps[3]["gain"] != [1.0]  # switched on after three steps
    validations = [line for line in lines(tmp_path / "c") if "mean_iou" in line]
    assert [line["step"] for line in validations] == [2, 4, 6, 8]
    assert all(set(line["dead_labels"]) <= {"dog", "cat", "sky", "car", "tree"} for line in validations)


def test_frozen_statistics_and_a_batch_of_one(tmp_path, tree):
    path = configuration(
        tmp_path / "c",
        tree,
        encoder=None,
        start=f'file = "{DEMO}"',
        batch=1,
        train='steps = 2\nbn = "frozen"\nrate = 0.01\n',
    )
    assert call("fit", path).returncode == 0
    before, after = weights(DEMO), weights(tmp_path / "c/run/last.safetensors")
    assert all(torch.equal(before[k], after[k]) for k in before if "running_" in k)
    assert not torch.equal(before["scratch.head1.weight"].float(), after["scratch.head1.weight"])
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("clip_pretrained."))


def test_export_is_what_torch_computes_and_tells_where_it_is_from(program, tmp_path, tree):
    path = configuration(
        tmp_path / "c", tree, encoder="vit", train=STEPS, model=BLOCK, top=f'program = "{program}"\nlicence = "mine"\n'
    )
    assert call("fit", path).returncode == 0
    for kind, name in (("f16", "half"), ("f32", "single")):
        done = call("export", path, "--to", tmp_path / f"{name}.safetensors", "--type", kind)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "scores of 10 photos" in done.stdout and "lseg-fast eval says mIoU" in done.stdout
    validation = max(line["mean_iou"] for line in lines(tmp_path / "c") if "mean_iou" in line)
    said = float(done.stdout.split("eval says mIoU ")[1].split(",")[0])
    assert abs(said - validation) < 0.02  # the best file's; eval resizes photos in its own way
    info = subprocess.run(
        [program, "info", tmp_path / "half.safetensors", "--json", "--verify"], capture_output=True, text=True
    )
    assert info.returncode == 0, info.stderr
    from lseg_train.files import read_tensors

    tensors, metadata = read_tensors(tmp_path / "half.safetensors")
    assert metadata["lseg-fast.licences"].startswith("mine") and "finetune" in metadata["lseg-fast.training"]
    assert json.loads(metadata["lseg-fast.words"]) == sorted(
        ["dog", "puppy", "cat", "sky", "car", "automobile", "tree", "other"]
    )
    assert (
        json.loads(metadata["lseg-fast.recipe"])["steps"] == 8
        and json.loads(metadata["lseg-fast.data"])[0]["photos"] == 8
    )
    assert tensors["scratch.head1.weight"].dtype == torch.float16


def test_licences_and_limits_of_the_start_go_along(tmp_path, tree):
    from lseg_train.files import read_tensors

    demo = read_tensors(DEMO)[1]
    for name, options in (("file", {"encoder": None, "start": f'file = "{DEMO}"'}), ("text", {})):
        path = configuration(
            tmp_path / name, tree, train="steps = 1\n", validation=False, top='licence = "mine"\n', **options
        )
        assert call("fit", path).returncode == 0
        assert (
            read_tensors(tmp_path / name / "run/last.safetensors")[1]["lseg-fast.licences"]
            == demo["lseg-fast.licences"]
        )
        done = call("export", path, "--to", tmp_path / f"{name}.safetensors")
        assert done.returncode == 0, done.stderr
        metadata = read_tensors(tmp_path / f"{name}.safetensors")[1]
        assert metadata["lseg-fast.licences"] == f"mine; {demo['lseg-fast.licences']}"
    told = read_tensors(tmp_path / "file.safetensors")[1]
    assert told["lseg-fast.limits"] == f"Of the model that it began with: {demo['lseg-fast.limits']}"
    assert told["lseg-fast.training"].endswith(f"Before that: {demo['lseg-fast.training']}")
    assert "lseg-fast.limits" not in metadata  # of a text tower alone they would be wrong


def test_export_refuses_what_the_program_does_not_run(tmp_path, tree):
    path = configuration(tmp_path / "c", tree, train=STEPS, model=BLOCK.replace("depth = 2", "depth = 2\ntied = false"))
    done = call("export", path)
    assert done.returncode == 1 and "lseg-train fit" in done.stderr
    assert call("fit", path).returncode == 0
    done = call("export", path)
    assert done.returncode == 1 and "tied = true" in done.stderr


def limited(path, size):
    """`fit` where no file may grow beyond `size` bytes, as on a disk that is full."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    return subprocess.run(command("fit", path), capture_output=True, text=True, env=environment(), preexec_fn=limit)


def test_a_full_disk_keeps_what_was_there(tmp_path, tree):
    path = configuration(tmp_path / "c", tree, train=STEPS.replace("steps = 8", "steps = 2"), validation=False)
    assert call("fit", path).returncode == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "c/run").iterdir()}
    sizes = {name: len(content) for name, content in before.items()}
    assert 100_000 < sizes["state.pt"] < sizes["last.safetensors"] - 100_000
    for size, file in ((100_000, "state.pt"), (sizes["state.pt"] + 100_000, "last.safetensors")):
        (tmp_path / "c/run/state.pt").unlink()
        done = limited(path, size)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert f"{file}.part cannot be written" in done.stderr and "MiB are free" in done.stderr
        (tmp_path / "c/run/state.pt").write_bytes(before["state.pt"])
        assert {p.name for p in (tmp_path / "c/run").iterdir()} == before.keys()
        assert (tmp_path / "c/run/last.safetensors").read_bytes() == before["last.safetensors"]


def in_process(path):
    return fitting.Fit(read(path))


@pytest.fixture
def signals():
    kept = [(n, signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGINT)]
    yield
    for number, handler in kept:
        signal.signal(number, handler)


def test_what_is_not_finite_is_left_out_counted_and_in_the_end_refused(tmp_path, tree, signals):
    run = in_process(configuration(tmp_path / "c", tree, train="steps = 40\nrate = 0.001\n", validation=False))
    head, taught = run.trainer.model.scratch.head1.weight, run.trainer.learn
    kept = {}

    def learn(batch, rate):
        if run.trainer.step == 2:
            kept["good"] = head.detach().clone()
            kept["statistics"] = run.trainer.model.pretrained.layer1[1].running_mean.clone()
        if run.trainer.step >= 2:
            with torch.no_grad():
                head[0, 0] = float("inf")
        result = taught(batch, rate)
        if run.trainer.step > 2:
            with torch.no_grad():
                head[0, 0] = kept["good"][0, 0]
            assert torch.equal(head, kept["good"]) and not result[2]
            assert torch.equal(run.trainer.model.pretrained.layer1[1].running_mean, kept["statistics"])
        return result

    run.trainer.learn = learn
    with pytest.raises(Refused, match=r"not finite in 10 steps.*photos/\d.png"):
        run.run()
    assert run.trainer.step == 12 and run.trainer.not_finite == 10


def test_two_runs_do_not_share_a_folder(tmp_path, tree, signals):
    path = configuration(tmp_path / "c", tree, train="steps = 1\n", validation=False)
    run = in_process(path)
    done = call("fit", path)
    assert done.returncode == 1 and "another run writes to" in done.stderr
    assert run.run() == 0
    run.keeper.lock.close()
    assert call("fit", path).returncode == 0


def test_a_gpu_out_of_memory_says_what_to_change(tmp_path, tree, signals):
    run = in_process(configuration(tmp_path / "c", tree, train="steps = 1\n", validation=False))

    def learn(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    run.trainer.learn = learn
    with pytest.raises(Refused, match=r"train.batch \(4\) or train.crop \(64\), train.recompute"):
        run.run()


def test_a_reader_that_the_system_ends_is_told_in_a_line(tmp_path, tree):
    train = STEPS.replace("steps = 8", "steps = 4000")
    path = configuration(tmp_path / "c", tree, train=train, run="log_every = 1\n", validation=False)
    path.write_text(path.read_text().replace("workers = 0", "workers = 1"))
    process = started(path, 2)
    (reader,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(reader), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in said, said
    assert said.splitlines()[-1].startswith("error: a process that reads photos") and "run.workers (1;" in said, said


def test_early_stop(tmp_path, tree, signals):
    run = in_process(
        configuration(
            tmp_path / "c",
            tree,
            train='steps = 40\nrate = 1e-9\nepoch_samples = 4\nearly_stop = 2\nema = 0.0\nbn = "frozen"\n',
        )
    )
    assert run.run() == 0
    assert run.trainer.step == 3  # the first epoch is the best, two without a better one follow


def test_published_recipe_steps_as_pytorchs_sgd(tmp_path, tree, signals):
    path = configuration(tmp_path / "c", tree, recipe="published", train="epochs = 2\n", validation=False, model=BLOCK)
    run = in_process(path)
    assert run.run() == 0
    factors = {g["name"]: (g["lr"], g["momentum"], g["weight_decay"]) for g in run.trainer.optimiser.param_groups}
    base = 0.004 / 16 * 4 * (1 - 1 / 2) ** 0.9
    assert factors["head block"] == factors["encoder"] == pytest.approx((base, 0.9, 1e-4))
    assert factors["decoder"] == pytest.approx((10 * base, 0.9, 1e-4))


def test_help_has_examples():
    for arguments in (["--help"], ["fit", "--help"]):
        done = call(*arguments)
        assert done.returncode == 0 and "torchrun --nproc-per-node" in done.stdout


def test_the_package_runs_from_anywhere(tmp_path):
    """Installed, not from the checkout: pip builds the wheel with the merges inside."""
    shutil.copytree(
        Path(__file__).resolve().parents[1],
        tmp_path / "source",
        ignore=shutil.ignore_patterns("build", "*.egg-info", ".venv"),
    )
    out = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--target", tmp_path / "site", tmp_path / "source"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    code = "from lseg_train.tokens import Tokenizer; print(Tokenizer(49408)('dog'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.stdout.strip() == "[49406, 1929, 49407]", done.stderr
