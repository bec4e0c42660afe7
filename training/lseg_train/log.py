"""`log.jsonl`: a line a look. A run that goes on drops the lines behind its state, so that none is there twice."""

import json
import math
import resource
import time

import torch


class Log:
    def __init__(self, path, ranks, step, judged):
        self.file = None
        if not ranks.first:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in lines(path) if line["step"] <= (judged if "mean_iou" in line else step)]
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(line) + "\n" for line in kept))
        part.rename(path)
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def line(self, **numbers):
        if self.file:
            self.file.write(json.dumps({k: plain(v) for k, v in numbers.items()}) + "\n")
            self.file.flush()

    def close(self):
        if self.file:
            self.file.close()


class Look:
    """What is told of the steps since the last look."""

    def __init__(self, log, batch, steps):
        self.log, self.batch, self.steps, self.since, self.losses = log, batch, steps, time.monotonic(), []

    def step(self, loss):
        self.losses.append(loss)

    def line(self, trainer, at, norm):
        """Writes a line of the log -> the same for people."""
        loss, now = sum(self.losses) / len(self.losses), time.monotonic()
        speed = len(self.losses) * self.batch / (now - self.since)
        self.log.line(
            step=trainer.step, loss=loss, rate=at, gradient=norm, photos_per_second=speed,
            memory=memory(trainer.ranks.device), not_finite=trainer.not_finite, **trainer.block(),
        )  # fmt: skip
        self.since, self.losses = now, []
        left = (self.steps - trainer.step) * self.batch / speed / 60
        return f"loss {loss:.4f}, rate {at:.2e}, {speed:.1f} photos/s, {left:.0f} min left"


def plain(value):
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def lines(path):
    """Whole lines alone: a kill may have cut the last."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def memory(device):
    """Largest so far, in bytes: the GPU's, or this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
