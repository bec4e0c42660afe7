"""Which words are offered for a sample, and which of them is right for each pixel."""

from dataclasses import dataclass

import numpy as np

from .lists import key
from .samples import IGNORED, OTHER, OTHER_WORD


@dataclass
class Offer:
    words: list[str]
    answer: np.ndarray
    """int64: for each label of the sample the index of its word; that of "other" for one that is left out; IGNORED for
    one that is neither offered nor there."""
    other: int
    """The index of the word "other", or -1."""


def offer(sample, rng, negatives=None, leave_out=0.0, synonyms="random"):
    """Words for `sample`, whose truth is what the network gets (the crop's).

    `negatives` None: every label, in order (LSeg's). A number: the labels that are there and so many of those that are
    not, in random order, and "other" behind them as long as there are labels that are not offered.
    `leave_out`: how often a label that is there is not offered, so that its pixels are "other".
    "other" is offered in any case where the truth has pixels of OTHER. A label of that name is never left out, and is
    what those pixels are. An episode's two words are always both offered."""
    labels = sample.labels
    if sample.episode:
        return Offer([word(own, rng, synonyms) for own in labels], np.arange(len(labels)), -1)
    truths = np.unique(sample.truth)
    present = truths[truths >= 0]
    named_other = next((i for i, own in enumerate(labels) if OTHER_WORD in map(key, own)), None)
    left_out = present[(rng.random(len(present)) < leave_out) & (present != named_other)]
    if negatives is None:
        offered = np.setdiff1d(np.arange(len(labels)), left_out)
    else:
        absent = np.setdiff1d(np.arange(len(labels)), present)
        drawn = rng.choice(absent, min(negatives, len(absent)), replace=False)
        offered = rng.permutation(np.concatenate([np.setdiff1d(present, left_out), drawn]))
        if named_other is not None and named_other not in offered:
            offered = np.append(offered, named_other)
    offered = offered.astype(np.int64)
    words = [word(labels[i], rng, synonyms) for i in offered]
    answer = np.full(len(labels), IGNORED, np.int64)
    answer[offered] = np.arange(len(offered))
    other = -1 if named_other is None else int(answer[named_other])
    if other < 0 and (len(offered) < len(labels) or OTHER in truths):
        other = len(words)
        words.append(OTHER_WORD)
    answer[left_out] = other
    return Offer(words, answer, other)


def word(own, rng, synonyms):
    return own[rng.integers(len(own))] if synonyms == "random" else own[0]


def answers(truth, offer):
    """Truth int16 [h, w] -> the index of the right word, int64 [h, w]; -1 where none counts."""
    table = np.concatenate([offer.answer, [offer.other, IGNORED]])  # OTHER is -2, IGNORED -1: the places from the end
    return table[truth]
