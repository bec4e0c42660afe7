"""One run of the study: a small LSeg from nothing, trained for half a minute, and what happened in its head block."""

import math
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lseg_train import architecture
from lseg_train.network import ImageModel, upsample
from studies.depth_scenes import IGNORED, LABELS

EMBED = 64
COMMON = 0.77
"""Cosine of two label vectors: CLIP's words have about this with each other."""
MARKS = (0, 5, 10, 20, 40, 60, 80, 99, 100, 105, 110, 120, 140, 160, 200, 300)
"""Steps whose insides are kept; the last step is kept too."""
TAIL = 20
"""The loss is the mean over so many last steps."""


class HeldGain(nn.Conv2d):
    """A 3×3 kernel whose nine numbers add up to 1 whatever is learned, without bias: shape alone, no temperature."""

    def __init__(self):
        super().__init__(1, 1, 3, 1, 1, bias=False)

    def held(self):
        return self.weight + (1 - self.weight.sum()) / self.weight.numel()

    def forward(self, x):
        return F.conv2d(x, self.held(), padding=1)


class Steady(nn.Module):
    """One scalar that is not learned: temperature alone, from the first step on."""

    def __init__(self, gain):
        super().__init__()
        self.register_buffer("weight", torch.full((1, 1, 1, 1), float(gain)))

    def forward(self, x):
        return x * self.weight


KERNELS = {"scale": lambda: nn.Conv2d(1, 1, 1), "shape": HeldGain, "steady": lambda: Steady(2)}
"""Stand-ins for the 3×3 kernel that have only one of its two parts."""


def label_vectors(count=len(LABELS), seed=0):
    """Unit vectors [count, EMBED], the same in every run, whose cosines are about COMMON."""
    generator = torch.Generator().manual_seed(seed)
    shared, *own = F.normalize(torch.randn(1 + count, EMBED, generator=generator), dim=1)
    return F.normalize(COMMON**0.5 * shared + (1 - COMMON) ** 0.5 * torch.stack(own), dim=1)


def model_of(job):
    """Encoder and decoder start the same for one seed, whatever the block: they are drawn before it."""
    torch.manual_seed(job["seed"])
    kind = "depthwise" if job["kind"] in KERNELS else job["kind"]
    block = architecture.head_block(kind, job["depth"], job["activation"])
    image = architecture.resnet(16, (1, 1, 1, 1), (8, 16, 24, 32))
    model = ImageModel(architecture.network(image, 32, {}, EMBED, block=block))
    if job["kind"] in KERNELS:
        model.scratch.head_block.depthwise.depthwise = KERNELS[job["kind"]]()
    if model.regularised and job["start"] != "default":
        as_identity(model.scratch.head_block.depthwise.depthwise)
    return model


def as_identity(kernel):
    """Centre 1, all else 0; of any size."""
    for parameter in kernel.parameters():
        nn.init.zeros_(parameter)
    middle = kernel.weight.shape[-1] // 2
    nn.init.ones_(kernel.weight[0, 0, middle, middle])


def optimizer_of(model, job):
    """SGD as published, with weight decay 1e-4, or AdamW; a rate for each of encoder, decoder and block."""
    of_block = [p for name, p in model.scratch.named_parameters() if name.startswith("head_block.")]
    of_decoder = [p for name, p in model.scratch.named_parameters() if not name.startswith("head_block.")]
    groups = [
        {"params": list(model.pretrained.parameters()), "lr": job["rate"]},
        {"params": of_decoder, "lr": job["decoder_rate"] * job["rate"]},
        {"params": of_block, "lr": job["block_rate"] * job["rate"]},
    ]
    groups = [g for g in groups if g["params"]]
    if job["optimiser"] == "adamw":
        return torch.optim.AdamW(groups, weight_decay=0.01)
    return torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)


def normalised(images, config=architecture.MEAN_STD["resnet"]):
    """u8 [n, h, w, 3] -> float32 [n, 3, h, w]."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in config)
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std


def inside(model, logits, scores, loss):
    """What is logged at a marked step, between the way back and the step: `contrast` is the spread over labels behind
    the block in spreads before it, `below` the share of logits under 0, `gradient` the norm of the encoder's."""
    entry = {"loss": loss, "mean": logits.mean(), "below": (logits < 0).float().mean()}
    entry["contrast"] = scores.std(1).mean() / logits.std(1).mean()
    entry["gradient"] = torch.cat([p.grad.flatten() for p in model.pretrained.parameters()]).norm()
    if model.regularised:
        kernel = model.scratch.head_block.depthwise.depthwise
        entry["gain"] = (kernel.held() if isinstance(kernel, HeldGain) else kernel.weight).sum()
        if getattr(kernel, "bias", None) is not None:
            entry["bias"] = kernel.bias.sum()
    return {name: finite(float(f"{value.item():.4g}")) for name, value in entry.items()}


def finite(number):
    """JSON has no NaN: None."""
    return number if math.isfinite(number) else None


def measured(model, texts, images, labels, regularise):
    """mIoU in percent."""
    model.eval()
    confusion = torch.zeros(len(LABELS), len(LABELS), dtype=torch.long)
    for i in range(0, len(images), 20):
        with torch.no_grad():
            scores = upsample(model.scores(model(normalised(images[i : i + 20])), texts, regularise=regularise))
        truth = torch.from_numpy(labels[i : i + 20]).long()
        kept = truth != IGNORED
        pairs = truth[kept] * len(LABELS) + scores.argmax(1)[kept]
        confusion += torch.bincount(pairs, minlength=confusion.numel()).view_as(confusion)
    right = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - right
    return 100 * (right / union.clamp(min=1)).mean().item()


def run(job, scenes):
    """`job`: see `depth.Job`. Gives the line that is kept of it."""
    began = time.process_time()
    texts, model = label_vectors()[None], model_of(job)
    optimizer = optimizer_of(model, job)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, job["steps"], 0.9)
    order = np.random.default_rng(job["seed"])
    path, losses = [], []
    for step in range(job["steps"]):
        chosen = order.integers(len(scenes["images"]), size=job["batch"])
        truth = torch.from_numpy(scenes["labels"][chosen]).long()
        logits = model.logits(model(normalised(scenes["images"][chosen])), texts)
        # Not in use, the block has no gradients, and SGD leaves it alone.
        used = model.regularised and not (job["start"] == "late" and step < job["after"])
        scores = model.scratch.head_block(logits) if used else logits
        loss = F.cross_entropy(upsample(scores), truth, ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        if step in MARKS or step == job["steps"] - 1:
            path.append({"step": step, **inside(model, logits.detach(), scores.detach(), loss.detach())})
        if job["clip"]:
            nn.utils.clip_grad_norm_(model.parameters(), job["clip"])
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    test = scenes["test_images"], scenes["test_labels"]
    loss = float(np.mean(losses[-TAIL:]))
    return {
        **job,
        "miou": round(measured(model, texts, *test, regularise=True), 2),
        "miou_without": round(measured(model, texts, *test, regularise=False), 2),
        "loss": finite(round(loss, 4)),
        "loss_to_uniform": finite(round(loss / math.log(len(LABELS)), 4)),
        "cpu_seconds": round(time.process_time() - began, 1),
        "path": path,
    }
