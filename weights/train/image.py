"""Stage `image`: LSeg's training (cross-entropy of the scores, text tower frozen) of the image model from nothing
-> out/image.pt.

Warm-up, then a constant rate for as long as it may run (`--steps`; stop it with SIGTERM or SIGINT, start it again and it goes
on); `--anneal N` takes the checkpoint as it stands, lets the rate fall to nothing in N steps and writes the model.
The constant run can go on afterwards and be annealed again.

Two processes of one thread each share the batch and average their gradients: on two cores that others use too, this
waits once a step instead of once an operation."""

import argparse
import json
import math
import os
import signal
import time

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch.nn import functional as F

import tower
from gibberish import gibberish
from labels import LabelSets, every_text
from network import MEAN, STD, ImageModel, pixels
from scenes import FOLDER, SIDE, Scenes
from sources import OUT
from things import NAMED, TRAINED
from tower import save

SEED = 3
PROCESSES = 2
RATE, WARM_UP, WEIGHT_DECAY = 1.5e-3, 300, 0.03
EMA = {False: 0.998, True: 0.99}
"""Share of the mean of past weights that a step keeps, at the constant rate and while it falls."""

BATCHES = [(96, 16, 0.5), (128, 9, 0.3), (192, 4, 0.2)]
"""Input size, scenes a process, share of the steps."""

LABELS = 16
SAMPLED = 256
"""Pixels a scene whose score among all names is trained beside the label set's."""

CHECKPOINT, ANNEALING, RESULT = OUT / "image-constant.pt", OUT / "image-annealing.pt", OUT / "image.pt"


class Words:
    """Unit vectors of all texts that may be offered, and of meaningless words that are new at every start."""

    def __init__(self, seed):
        text_tower, real_words = tower.load()
        self.gibberish = gibberish(np.random.default_rng(seed), 1500, real_words)
        texts = list(dict.fromkeys(every_text() + self.gibberish))
        self.rows = {t: i for i, t in enumerate(texts)}
        self.table = tower.vectors(text_tower, texts)
        self.names = tower.vectors(text_tower, NAMED)

    def __call__(self, texts):
        return self.table[[self.rows[t] for t in texts]]


class Shards:
    """All finished shards of scenes; those that are finished later are found when looked for again."""

    def __init__(self):
        self.shards = {}
        self.look()

    def look(self):
        for names in sorted(FOLDER.glob("*.names.json")):
            stem = str(names)[: -len(".names.json")]
            if stem not in self.shards:
                arrays = [np.load(f"{stem}.{part}.npy", mmap_mode="r") for part in ("images", "things")]
                self.shards[stem] = (*arrays, json.loads(names.read_text()))
        if not self.shards:
            raise SystemExit(f"no scenes in {FOLDER}; run the scenes stage first")

    def cut(self, rng, size):
        """A square of a scene at a random scale, mirrored half of the time."""
        keys = list(self.shards)
        images, things, names = self.shards[keys[rng.integers(len(keys))]]
        i, side = rng.integers(len(names)), int(rng.integers(max(size * 2 // 3, SIDE * 4 // 7), SIDE + 1))
        y, x = rng.integers(0, SIDE - side + 1, 2)
        image, thing = (a[i, y : y + side, x : x + side] for a in (images, things))
        if side != size:
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
            thing = cv2.resize(thing, (size, size), interpolation=cv2.INTER_NEAREST)
        if rng.random() < 0.5:
            image, thing = image[:, ::-1], thing[:, ::-1]
        return image, thing, names[i]


def half(thing):
    """The pixels that the network's map, half the size, stands for (its ×2 aligns the corners)."""
    size = len(thing)
    rows = np.rint(np.arange(size // 2) * (size - 1) / (size // 2 - 1)).astype(int)
    return thing[rows][:, rows]


def normalised(images):
    x = torch.from_numpy(np.ascontiguousarray(np.stack(images))).permute(0, 3, 1, 2).float()
    return ((x / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)


class Batch:
    """Scenes with their label sets, as tensors."""

    def __init__(self, rng, scenes, words, jitter):
        label_sets, number = LabelSets(rng, words.gibberish, LABELS), {name: i for i, name in enumerate(NAMED)}
        answers, sampled, named, weights = [], [], [], []
        self.texts = torch.zeros(len(scenes), LABELS, words.table.shape[1])
        self.offered = torch.zeros(len(scenes), 1, LABELS, dtype=torch.bool)
        for i, (_, thing, names) in enumerate(scenes):
            labels, thing = label_sets(names), half(thing).ravel()
            self.texts[i, : len(labels.texts)] = words(labels.texts)
            self.offered[i, :, : len(labels.texts)] = True
            answer = labels.answer[thing]
            count = np.bincount(answer + 1, minlength=LABELS + 1)[answer + 1]
            answers.append(answer)
            weights.append(np.where(answer < 0, 0, 1 / np.sqrt(np.maximum(count, 12))).astype(np.float32))
            known = np.array([number.get(n, -1) for n in names])
            share = np.where(known < 0, 0, np.where(known < len(TRAINED), 1, 0.3))[thing]
            share = share / np.sqrt(np.maximum(np.bincount(thing, minlength=len(names)), 12))[thing] + 1e-9
            chosen = rng.choice(len(thing), SAMPLED, p=share / share.sum())
            sampled.append(chosen)
            named.append(known[thing[chosen]])
        self.image = normalised([image for image, _, _ in scenes])
        if jitter:
            n, generator = len(scenes), torch.Generator().manual_seed(int(rng.integers(1 << 31)))
            gain, shift = (torch.randn(n, k, 1, 1, generator=generator) for k in (1, 3))
            self.image = self.image * (1 + 0.15 * gain) + 0.1 * shift
        self.answers, self.sampled, self.named = (torch.from_numpy(np.stack(a)) for a in (answers, sampled, named))
        self.weights = torch.from_numpy(np.stack(weights))

    def losses(self, model, names):
        """Cross-entropy over the label sets and, for sampled pixels, over all names; pixel accuracy, object accuracy."""
        path = pixels(model(self.image))
        scores = model.scores(path, self.texts).masked_fill(~self.offered, -1e4)
        each = F.cross_entropy(scores.transpose(1, 2), self.answers, ignore_index=-1, reduction="none")
        among_labels = (each * self.weights).sum() / self.weights.sum()
        few = path.gather(1, self.sampled[..., None].expand(-1, -1, path.shape[2]))
        few = model.scores(few, names[None])
        among_names = F.cross_entropy(few.flatten(0, 1), self.named.flatten(), ignore_index=-1)
        with torch.no_grad():
            right = (scores.argmax(2) == self.answers)[self.answers >= 0].float().mean()
            objects = (self.named >= 0) & (self.named < len(TRAINED))
            top = (few.argmax(2) == self.named)[objects].float().mean()
        return among_labels, among_names, right, top


class Validation:
    """New scenes of the training styles at full size: what the first claim measures, on a small set."""

    def __init__(self, words, count=64):
        scenes, rng = Scenes([77], one_style=1, restyled=0), np.random.default_rng(78)
        self.scenes = [scenes.scene() for _ in range(count)]
        self.labels = []
        for _, _, names in self.scenes:
            present = [n for n in names if n is not None]
            absent = [n for n in NAMED if n not in present]
            self.labels.append([*present, *(absent[i] for i in rng.choice(len(absent), 8, replace=False)), "other"])
        self.texts = [words(labels) for labels in self.labels]
        self.names = words.names

    @torch.inference_mode()
    def __call__(self, model):
        """(mean IoU of objects, of backgrounds, top-1 of object pixels among all names)"""
        model.eval()
        both, either, hits, total = {}, {}, 0, 0
        for (image, thing, names), labels, texts in zip(self.scenes, self.labels, self.texts):
            path = pixels(model(normalised([image])))
            thing = half(thing).ravel()
            found = model.scores(path, texts[None])[0].argmax(1).numpy()
            named = model.scores(path, self.names[None])[0].argmax(1).numpy()
            for i, name in enumerate(names):
                if name is None or not (thing == i).any():
                    continue
                true, said = thing == i, found == labels.index(name)
                both[name] = both.get(name, 0) + (true & said).sum()
                either[name] = either.get(name, 0) + (true | said).sum()
                if name in TRAINED:
                    hits, total = hits + (named[true] == NAMED.index(name)).sum(), total + true.sum()
        iou = {name: both[name] / either[name] for name in both}
        objects, grounds = ([v for n, v in iou.items() if (n in TRAINED) == which] for which in (True, False))
        return np.mean(objects), np.mean(grounds), hits / total


class Trainer:
    def __init__(self, rank, anneal):
        torch.manual_seed(SEED)
        self.rank, self.anneal = rank, anneal
        self.model = ImageModel().to(memory_format=torch.channels_last)
        self.mean = {k: v.clone() for k, v in self.model.state_dict().items() if v.is_floating_point()}
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0}]
        self.optimiser = torch.optim.AdamW(groups, RATE, betas=(0.9, 0.98))
        self.step = self.seen = self.first = 0
        path = ANNEALING if anneal and ANNEALING.exists() else CHECKPOINT
        if path.exists():
            stored = torch.load(path, weights_only=True)
            self.model.load_state_dict(stored["model"])
            self.mean = stored["mean"]
            self.optimiser.load_state_dict(stored["optimiser"])
            self.step, self.seen = stored["step"], stored["seen"]
            self.first = stored["first"] if path == ANNEALING else self.step
        elif anneal:
            raise SystemExit(f"{CHECKPOINT} is missing; run the image stage without --anneal first")

    def save(self):
        content = {"model": self.model.state_dict(), "mean": self.mean, "optimiser": self.optimiser.state_dict(),
                   "step": self.step, "seen": self.seen, "first": self.first}  # fmt: skip
        save(content, ANNEALING if self.anneal else CHECKPOINT)

    def averaged(self):
        """The model with the mean of its recent weights."""
        model = ImageModel().to(memory_format=torch.channels_last)
        model.load_state_dict(self.model.state_dict() | self.mean)
        return model

    def rate(self):
        if self.anneal:
            return RATE * max(0.0, 1 - (self.step - self.first) / self.anneal)
        return RATE * min(1, (self.step + 1) / WARM_UP)

    def update(self, loss, stop):
        """One step with the mean of all processes' gradients; whether any of them was told to stop."""
        self.optimiser.zero_grad()
        loss.backward()
        gradients = [p.grad for p in self.model.parameters()]
        flat = torch.cat([*(g.flatten() for g in gradients), torch.tensor([float(stop)])])
        dist.all_reduce(flat)
        flat /= PROCESSES
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.optimiser.step()
        self.step += 1
        keep = min(EMA[bool(self.anneal)], (1 + self.step) / (10 + self.step))
        now = self.model.state_dict()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.values()), [now[k] for k in self.mean], 1 - keep)
        return flat[-1].item() > 0


def work(rank, steps, anneal, minutes):
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    told = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.append(True))
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    trainer = Trainer(rank, anneal)
    words, shards = Words([SEED, rank, trainer.step]), Shards()
    validation = Validation(words) if rank == 0 else None
    last = trainer.first + anneal if anneal else steps
    shares = np.array([share for _, _, share in BATCHES])
    start = saved = said = time.time()
    judged, record, ended = start - 480, [], trainer.step >= last
    while not ended:
        size, count, _ = BATCHES[np.random.default_rng([SEED, trainer.step]).choice(len(BATCHES), p=shares)]
        rng = np.random.default_rng([SEED, 1 + rank, trainer.step])
        batch = Batch(rng, [shards.cut(rng, size) for _ in range(count)], words, jitter=True)
        among_labels, among_names, right, top = batch.losses(trainer.model.train(), words.names)
        stop = trainer.update(among_labels + among_names, bool(told) or time.time() - start > 60 * minutes)
        trainer.seen += PROCESSES * count
        record.append([among_labels.item(), among_names.item(), right.item(), top.item(), PROCESSES * count])
        ended, now = stop or trainer.step >= last, time.time()
        if rank == 0 and now - said > 30:
            labels, names, pixel, top = np.nanmean(record, 0)[:4]
            print(
                f"{now - start:5.0f} s step {trainer.step} scenes {trainer.seen} ({sum(r[4] for r in record) / (now - said):.1f}/s) "
                f"rate {trainer.rate():.5f} loss {labels:.3f} + {names:.3f} pixels {pixel:.3f} objects {top:.3f}",
                flush=True,
            )
            record, said = [], now
        if rank == 0 and (ended or now - saved > 180):
            trainer.save()
            shards.look()
            saved = time.time()
        elif trainer.step % 200 == 0:
            shards.look()
        if rank == 0 and (ended or now - judged > 600):
            objects, grounds, top = validation(trainer.averaged())
            print(
                f"== step {trainer.step} scenes {trainer.seen}: object mIoU {objects:.3f}, background mIoU {grounds:.3f}, "
                f"object top-1 among all {len(NAMED)} names {top:.3f}",
                flush=True,
            )
            judged = time.time()
    if rank == 0 and anneal and trainer.step >= last:
        save({"model": trainer.averaged().state_dict(), "step": trainer.step, "seen": trainer.seen}, RESULT)
        ANNEALING.unlink()
    dist.barrier()
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40000)
    parser.add_argument("--anneal", type=int, default=0, metavar="STEPS")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this long, with a checkpoint")
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 20000)}
    torch.multiprocessing.spawn(work, (arguments.steps, arguments.anneal, arguments.minutes), PROCESSES)


if __name__ == "__main__":
    main()
