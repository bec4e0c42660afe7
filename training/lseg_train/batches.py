"""Samples of a step, read by worker processes and made tensors."""

import signal
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .augment import augmented
from .data import IGNORED
from .errors import Refused
from .offers import answers, offer


@dataclass
class Batch:
    images: torch.Tensor
    """u8 [n, crop, crop, 3]"""
    answers: torch.Tensor
    """int64 [n, crop, crop], indices into the sample's words; -1 counts nowhere."""
    words: list
    """Of each sample."""
    titles: list
    """Photos, for messages."""


class Samples(Dataset):
    """Sample number -> (photo, answers, words, title), augmented; or why the photo cannot be had, which passes from
    process to process as a value (an exception would bring its traceback along)."""

    def __init__(self, data_sets, order, recipe):
        self.data_sets, self.order, self.recipe = data_sets, order, recipe

    def __getitem__(self, number):
        try:
            return self.sample(number)
        except Refused as why:
            return why

    def sample(self, number):
        which, item = self.order(number)
        data, recipe = self.data_sets[which], self.recipe
        rng = np.random.default_rng([recipe.seed, 1 << 21, number])
        sample = data.load(item)
        pad = data.pad if recipe.pad == "published" else IGNORED
        photo, truth = augmented(
            sample, rng, recipe.crop, recipe.base, recipe.scales, recipe.mirror, pad=pad, jitter=recipe.jitter
        )
        offered = offer(
            replace(sample, photo=photo, truth=truth), rng, recipe.negatives, recipe.leave_out, data.synonyms
        )
        return photo, answers(truth, offered), offered.words, data.title(item)


class Steps:
    """Sample numbers of this process's part of each step."""

    def __init__(self, first, last, batch, ranks):
        self.first, self.last, self.batch, self.ranks = first, last, batch, ranks

    def __iter__(self):
        for step in range(self.first, self.last):
            start = step * self.batch
            yield list(range(start + self.ranks.rank, start + self.batch, self.ranks.count))

    def __len__(self):
        return self.last - self.first


def collated(samples):
    refused = next((s for s in samples if isinstance(s, Refused)), None)
    if refused:
        return refused
    photos, truths, words, titles = zip(*samples)
    images, truths = torch.from_numpy(np.stack(photos)), torch.from_numpy(np.stack(truths))
    return Batch(images, truths, list(words), list(titles))


def left_to_the_trainer(_):
    """Ctrl-C reaches the readers too; the training process ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def batches(data_sets, order, recipe, ranks, first, last, workers):
    """Of steps `first` to `last`."""
    loader = DataLoader(
        Samples(data_sets, order, recipe),
        batch_sampler=Steps(first, last, recipe.batch, ranks),
        collate_fn=collated,
        num_workers=workers,
        worker_init_fn=left_to_the_trainer,
        pin_memory=ranks.device.type == "cuda",
    )
    for batch in loader:
        if isinstance(batch, Refused):
            raise batch
        yield batch


def offered_vectors(words, vectors):
    """Words of each sample -> (texts [n or 1, most, C], offered [n or 1, most, 1, 1] or None where all have as
    many)."""
    if all(w == words[0] for w in words):
        return vectors(words[0])[None], None
    most = max(map(len, words))
    rows = [vectors(w) for w in words]
    texts = torch.zeros(len(words), most, rows[0].shape[1])
    offered = torch.zeros(len(words), most, 1, 1, dtype=torch.bool)
    for i, row in enumerate(rows):
        texts[i, : len(row)], offered[i, : len(row)] = row, True
    return texts, None if offered.all() else offered
