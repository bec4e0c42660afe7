"""What a run keeps on the disk: its state, the best three files by validation mIoU, the last."""

import fcntl
import json

import torch

from . import files
from .errors import Refused

STATE, LOCK = "state.pt", "lock"
BEST = 3


class Keeper:
    """Of one run's folder. Only the first process writes."""

    def __init__(self, config, begun, ranks):
        self.config, self.begun, self.ranks = config, begun, ranks
        self.best, self.judged, self.epochs_without = [], 0, 0
        self.lock = locked(config.out) if ranks.first else None

    @property
    def stopped_early(self):
        most = self.config.recipe.early_stop
        return bool(most) and self.epochs_without >= most

    def take_up(self, trainer):
        """Goes on from the state, if there is one; refuses a state of another configuration."""
        path = self.config.out / STATE
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.ranks.device, weights_only=True)
            before = json.loads(state["config"])
        except Exception as error:  # torch names many kinds
            raise Refused(f"{path} cannot be read ({str(error).splitlines()[0]}); remove it to begin anew") from None
        differing = sorted(differences(before, self.config.identity()))
        if differing:
            raise Refused(
                f"{path} is of another configuration: {', '.join(differing)} differ. Set `out` to another folder to "
                "begin anew"
            )
        trainer.model.load_state_dict(state["model"])
        trainer.optimiser.load_state_dict(state["optimiser"])
        trainer.mean = state["mean"]
        trainer.step, trainer.not_finite = state["step"], state["not_finite"]
        self.best, self.judged, self.epochs_without = (
            [tuple(b) for b in state["best"]],
            state["judged"],
            state["epochs_without"],
        )

    def save(self, trainer):
        if self.ranks.first:
            content = {
                "config": json.dumps(self.config.identity()), "model": trainer.model.state_dict(), "mean": trainer.mean,
                "optimiser": trainer.optimiser.state_dict(), "step": trainer.step, "not_finite": trainer.not_finite,
                "best": [list(b) for b in self.best], "judged": self.judged, "epochs_without": self.epochs_without,
            }  # fmt: skip
            files.save_state(content, self.config.out / STATE)

    def judged_with(self, trainer, mean_iou):
        """Notes a validation, and keeps the file if it is one of the best."""
        self.judged = trainer.step
        better = not self.best or mean_iou > self.best[0][0]
        self.epochs_without = 0 if better else self.epochs_without + 1
        entry = (mean_iou, trainer.step)
        ranked = sorted([*self.best, entry], key=lambda b: (-b[0], b[1]))
        if entry in ranked[:BEST]:
            self.write(trainer, self.file_of(*entry), mean_iou)
        self.best = ranked[:BEST]
        if self.ranks.first:
            for gone in ranked[BEST:]:
                self.file_of(*gone).unlink(missing_ok=True)

    def file_of(self, mean_iou, step):
        return self.config.out / f"best-{mean_iou:.4f}-step-{step}.safetensors"

    def write(self, trainer, path, mean_iou=None):
        if self.ranks.first:
            tensors = files.image_tensors(trainer.weights(), half=False)
            files.write_model(path, self.begun.config, tensors, self.begun.text, self.metadata(trainer, mean_iou))

    def metadata(self, trainer, mean_iou):
        """Of the run's files: what the start file says of itself goes along."""
        validation = {} if mean_iou is None else {"lseg-fast.validation": f"{mean_iou:.6f}"}
        return self.begun.metadata | {"lseg-fast.step": str(trainer.step)} | validation

    def finish(self, trainer):
        self.save(trainer)
        self.write(trainer, self.config.out / "last.safetensors")


def locked(folder):
    """The folder is this run's until it ends, however it ends -> the open file that says so."""
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / LOCK, "w")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Refused(f"another run writes to {folder}; end it, or set `out` to another folder") from None
    return file


def differences(one, other, path=""):
    """Names of the keys whose values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other)):
            yield from differences(a, b, f"{path}[{i}]")
    elif one != other:
        yield path
