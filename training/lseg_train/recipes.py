"""Numbers of training: three recipes, each number of which a `[train]` table may override."""

import dataclasses
import math
from dataclasses import dataclass, field

from .errors import Refused


@dataclass(frozen=True)
class Recipe:
    optimiser: str = "adamw"
    """"sgd" or "adamw"."""
    rate: float = 1e-4
    """Of the encoder, at the batch that is used; of `published` it is per 16 samples."""
    rate_per_16: bool = False
    decoder_rate: float = 1.0
    """Times `rate`: decoder, head1, head block."""
    momentum: float = 0.9
    weight_decay: float = 0.01
    schedule: str = "cosine"
    """"poly" (per epoch, (1 - epoch/epochs)^0.9), "cosine" (per step) or "constant"."""
    warm_up: int = 200
    """Steps in which the rate rises from nothing, at most a tenth of all."""
    epochs: int = 20
    steps: int = 0
    """In the place of `epochs` where it is not 0."""
    epoch_samples: int = 0
    """Samples that count as an epoch; 0: as many as there are photos."""
    batch: int = 8
    """Samples a step, of all processes together."""
    crop: int = 480
    base: int = 520
    """Longer side that `scales` multiply."""
    scales: list[float] = field(default_factory=lambda: [0.5, 2.0])
    mirror: bool = True
    jitter: float = 0.1
    pad: str = "ignored"
    """What lies beyond a photo: "ignored", or "published": what mask value 0 means (VOC: background)."""
    negatives: int | None = None
    """Absent labels offered beside a sample's own; without it the whole list is offered."""
    leave_out: float = 0.0
    """How often a label that is there is not offered, its pixels being "other"."""
    bn: str = "batch"
    """Batch statistics of all processes, or "frozen"."""
    precision: str = "float32"
    """"bfloat16": the network in it, cosines and loss in float32."""
    recompute: bool = False
    """Compute a ViT's blocks again on the way back: a third more time, a fraction of the memory."""
    clip: float = 1.0
    """Largest gradient norm; 0: none."""
    ema: float = 0.0
    """Share of the mean of past weights that a step keeps; validation and files take the mean. 0: none."""
    early_stop: int = 0
    """Epochs without a better validation after which training ends; 0: none."""
    seed: int = 0


RECIPES = {
    # LSeg's train_lseg.py and PyTorch-Encoding's augmentation.
    "published": Recipe(
        optimiser="sgd", rate=0.004, rate_per_16=True, decoder_rate=10.0, weight_decay=1e-4, schedule="poly", warm_up=0,
        epochs=240, jitter=0.0, pad="published", clip=0.0,
    ),
    "finetune": Recipe(precision="bfloat16", recompute=True, decoder_rate=2.0),
    # Two-way episodes; LSeg's authors stop after a few epochs (issue 36 of their repository).
    "zero-shot": Recipe(
        optimiser="sgd", rate=0.004, rate_per_16=True, decoder_rate=10.0, weight_decay=1e-4, schedule="poly", warm_up=0,
        epochs=20, jitter=0.0, clip=0.0, early_stop=3,
    ),
}  # fmt: skip

CHOICES = {
    "optimiser": ("sgd", "adamw"),
    "schedule": ("poly", "cosine", "constant"),
    "pad": ("ignored", "published"),
    "bn": ("batch", "frozen"),
    "precision": ("float32", "bfloat16"),
}
POSITIVE = ("rate", "decoder_rate", "batch", "crop", "base")
NOT_NEGATIVE = ("weight_decay", "warm_up", "epochs", "steps", "epoch_samples", "jitter", "clip", "early_stop", "seed")
SHARES = ("momentum", "leave_out", "ema")


def resolved(name, overrides):
    """The recipe with `overrides`, a dict of its fields."""
    if name not in RECIPES:
        raise Refused(f"recipe is {name!r}, one of {', '.join(RECIPES)} is expected")
    recipe = dataclasses.replace(RECIPES[name], **overrides)
    for key, choices in CHOICES.items():
        if getattr(recipe, key) not in choices:
            raise Refused(f"train.{key} is {getattr(recipe, key)!r}, one of {', '.join(choices)} is expected")
    for keys, right, expected in (
        (POSITIVE, lambda x: 0 < x < math.inf, "a number above 0"),
        (NOT_NEGATIVE, lambda x: 0 <= x < math.inf, "0 or more"),
        (SHARES, lambda x: 0 <= x < 1, "0 or more and below 1"),
    ):
        for key in keys:
            if not right(getattr(recipe, key)):
                raise Refused(f"train.{key} is {getattr(recipe, key)}, {expected} is expected")
    if len(recipe.scales) != 2 or not 0 < recipe.scales[0] <= recipe.scales[1] <= 16:
        raise Refused(f"train.scales is {recipe.scales}, [smallest, largest] is expected, at most 16")
    if recipe.negatives is not None and recipe.negatives < 0:
        raise Refused(
            f"train.negatives is {recipe.negatives}, 0 or more is expected (leave it out to offer the whole list)"
        )
    if recipe.leave_out and recipe.negatives is None:
        raise Refused('train.leave_out needs train.negatives: only there "other" is offered')
    if not recipe.epochs and not recipe.steps:
        raise Refused("train.epochs and train.steps are 0, one of them is expected")
    return recipe


def rate(recipe, step, steps, steps_an_epoch):
    """The encoder's rate at a step, from 0."""
    base = recipe.rate * (recipe.batch / 16 if recipe.rate_per_16 else 1)
    warm_up = min(recipe.warm_up, steps // 10)
    rising = min(1.0, (step + 1) / warm_up) if warm_up else 1.0
    if recipe.schedule == "constant":
        return base * rising
    if recipe.schedule == "cosine":
        return base * rising * (0.5 + 0.5 * math.cos(math.pi * step / steps))
    epochs = max(1, math.ceil(steps / steps_an_epoch))
    return base * rising * (1 - (step // steps_an_epoch) / epochs) ** 0.9
