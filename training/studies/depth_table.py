"""The runs of the study, in the order in which they are made."""

from dataclasses import dataclass

STARTS = ("default", "identity", "late")
"""PyTorch's U(-1/3, 1/3); identity; identity after `after` steps without the block."""


@dataclass(frozen=True)
class Job:
    kind: str
    """none, depthwise, bottleneck, or what `depth_run.KERNELS` has in the kernel's place."""
    depth: int
    activation: str
    start: str
    seed: int
    steps: int = 300
    batch: int = 4
    rate: float = 0.001
    """Of the encoder: the published 0.004 for 16 samples."""
    decoder_rate: float = 10
    block_rate: float = 10
    """Of decoder and block, in rates of the encoder."""
    optimiser: str = "sgd"
    clip: float = 0
    """Largest gradient norm; 0: any, as published."""
    after: int = 100
    """Steps before a late block starts."""

    @property
    def cell(self):
        """What `--only` is held against, as depthwise-4-lrelu-late; with -adamw, -clip1, -rate0.004 or -block1 where
        that is not as published."""
        extra = f"-{self.optimiser}" * (self.optimiser != Job.optimiser) + f"-clip{self.clip:g}" * bool(self.clip)
        extra += f"-rate{self.rate:g}" * (self.rate != Job.rate)
        extra += f"-block{self.block_rate:g}" * (self.block_rate != Job.block_rate)
        return f"{self.kind}-{self.depth}-{self.activation}-{self.start}{extra}"


def group(seeds, kinds, depths=(4,), activations=("lrelu",), starts=STARTS, **changes):
    """Seed by seed, so that a table that was cut short has as many seeds in each of a group's cells."""
    return [
        Job(kind, depth, activation, start, seed, **changes)
        for seed in range(seeds)
        for depth in depths
        for activation in activations
        for kind in kinds
        for start in starts
    ]


FINETUNE = {"optimiser": "adamw", "rate": 1e-3, "decoder_rate": 2, "block_rate": 2, "clip": 1.0}
"""As lseg_train's recipe of this name, at a rate for an encoder that starts from nothing."""


def table():
    """Every run, the most telling first, then seed by seed. At depth 1 no activation follows: one stands for all."""
    both, plain = ("depthwise", "bottleneck"), ("default",)
    first = [
        *group(5, both),
        *group(5, ("none",), (0,), starts=plain),
        *group(3, ("none",), (0,), starts=plain, clip=1.0),
        *group(3, both, clip=1.0),
        *group(3, ("none",), (0,), starts=plain, **FINETUNE),
        *group(3, both, **FINETUNE),
        *group(5, both, block_rate=1.0),
        *group(3, ("depthwise",), (1, 2), starts=("identity", "late"), block_rate=1.0),
    ]
    then = [
        *group(5, ("depthwise", "scale"), (1,)),
        *group(5, ("shape",), (1,), starts=("identity",)),
        *group(5, ("steady",), (1,), starts=plain),
        *group(3, ("scale",)),
        *group(5, both, (2,)),
        *group(3, both, activations=("relu", "tanh")),
        *group(5, ("bottleneck",), (1,)),
        *group(3, both, (2,), activations=("relu", "tanh")),
    ]
    other_rate = [*group(3, ("none",), (0,), starts=plain, rate=0.004), *group(3, both, rate=0.004)]
    return first + sorted(then, key=lambda job: job.seed) + other_rate
