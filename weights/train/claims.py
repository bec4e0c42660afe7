"""The four claims about LSeg as measurements on scenes with their truth, and the words that each of them offers.

A scene is (thing [h, w], names): `thing` counts into `names`. What is measured gets the scores of many words at every
pixel; the mask for a label set is the best of its words, as in the product, where no label's score depends on others."""

from dataclasses import dataclass, field

import numpy as np

from labels import may_be_called
from things import (
    BACKGROUNDS, HELD_OUT_NAMES, MEANINGLESS_TEST, NAMED, SUPERCLASSES, SYNONYMS, TRAINED, superclasses_of, words_of,
)  # fmt: skip

OTHER_TEST = ["other", "others", "background", "else", "unknown"]
ABSENT = 8
SMALLEST = 135 / 192**2
"""Share of the scene that a thing must still show to be counted, where others lie over it."""

NOUNS = TRAINED + HELD_OUT_NAMES


def all_words():
    """Every word that a claim may offer, each once."""
    words = [w for name in NAMED for w in words_of(name)] + HELD_OUT_NAMES
    words += [w for names, _ in SUPERCLASSES for w in names] + OTHER_TEST + MEANINGLESS_TEST
    return list(dict.fromkeys(words))


@dataclass
class Questions:
    """What is asked about one scene."""

    present: list[str]
    """Names of all that is there and has one."""
    absent: list[str]
    """Names of things that are not there, and that nothing there may be called."""
    counted: list[str]
    """Those of `present` that show enough."""
    nouns: list[str]
    """Up to two of the counted nouns."""
    other: str
    meaningless: str
    noun: str | None
    """A counted noun, asked for by name, by a synonym and by a superclass."""
    synonym: str | None
    superclass: str | None
    members: list[str] = field(default_factory=list)


def questions(rng, thing, names, only=None):
    """`only`: the nouns that are asked for, if not all."""
    present = [n for n in names if n is not None]
    shown = np.bincount(thing.ravel(), minlength=len(names)) / thing.size
    counted = [n for i, n in enumerate(names) if n is not None and shown[i] >= SMALLEST]
    strangers = [n for n in NAMED if n not in present and not any(may_be_called(n, p) for p in present)]
    absent = [strangers[i] for i in rng.choice(len(strangers), ABSENT, replace=False)]
    nouns = [n for n in counted if n in (only or NOUNS)]
    two = [nouns[i] for i in rng.permutation(len(nouns))[:2]]
    asked = Questions(
        present, absent, counted, two, rng.choice(OTHER_TEST), rng.choice(MEANINGLESS_TEST), None, None, None
    )
    able = [n for n in two if superclasses_of(n) and SYNONYMS[n]]
    if able:
        asked.noun = able[0]
        asked.synonym = rng.choice(SYNONYMS[able[0]])
        words, members = SUPERCLASSES[rng.choice(superclasses_of(able[0]))]
        asked.superclass, asked.members = words[0], sorted(members)
    return asked


def iou(one, other):
    return (one & other).sum() / max(1, (one | other).sum())


class Tally:
    """Sums over scenes."""

    def __init__(self):
        self.both, self.either, self.strict = {}, {}, {}
        self.lists = {}

    def add(self, name, value):
        self.lists.setdefault(name, []).append(float(value))

    def scene(self, thing, names, asked, mask):
        """`mask(words)` is the product's mask for a label set."""
        self.segmented(thing, names, asked, mask)
        self.not_recalled(asked, mask)
        self.other(thing, names, asked, mask)
        self.same_pixels(thing, names, asked, mask)

    def segmented(self, thing, names, asked, mask):
        labels = [*asked.present, *asked.absent, "other"]
        found = mask(labels)
        truth = np.array([labels.index(n if n is not None else "other") for n in names])[thing]
        self.add("pixels right", (found == truth).mean())
        for i, label in enumerate(labels[:-1]):
            true, said = truth == i, found == i
            both, either = self.strict.setdefault(label, [0, 0])
            self.strict[label] = [both + (true & said).sum(), either + (true | said).sum()]
            if label in asked.counted:
                self.both[label] = self.both.get(label, 0) + (true & said).sum()
                self.either[label] = self.either.get(label, 0) + (true | said).sum()

    def not_recalled(self, asked, mask):
        labels = [*asked.present, asked.absent[0], "other"]
        share = (mask(labels) == len(labels) - 2).mean()
        self.add("absent pixels", share)
        self.add("absent scenes", share > 0.01)
        alone = (mask([asked.absent[0], "other"]) == 0).mean()
        self.add("absent alone pixels", alone)
        self.add("absent alone scenes", alone > 0.01)

    def other(self, thing, names, asked, mask):
        if not asked.nouns:
            return
        numbers = [asked.nouns.index(n) if n in asked.nouns else len(asked.nouns) for n in names]
        truth = np.array(numbers)[thing]
        rest = truth == len(asked.nouns)
        for kind, word in (("real", asked.other), ("meaningless", asked.meaningless)):
            found = mask([*asked.nouns, word])
            if rest.any():
                self.add(f"other recall, {kind} word", (found == len(asked.nouns))[rest].mean())
            for i in range(len(asked.nouns)):
                self.add(f"object IoU beside {kind} word", iou(truth == i, found == i))

    def same_pixels(self, thing, names, asked, mask):
        if asked.noun is None:
            return
        own = np.array([n == asked.noun for n in names])[thing]
        whole = np.array([n in asked.members for n in names])[thing]
        self.add("IoU of the name", iou(own, mask([asked.noun, "other"]) == 0))
        self.add("IoU of a synonym", iou(own, mask([asked.synonym, "other"]) == 0))
        self.add("IoU of a superclass", iou(whole, mask([asked.superclass, "other"]) == 0))

    def mean(self, name):
        return float(np.mean(self.lists[name]))

    def ious(self, group):
        return {n: self.both[n] / self.either[n] for n in sorted(self.both) if n in group}

    def strict_ious(self, group):
        return {n: both / either for n, (both, either) in self.strict.items() if n in group and either}

    def results(self, nouns=TRAINED):
        """name -> number."""
        return {
            "object mIoU": np.mean([*self.ious(nouns).values()]),
            "background mIoU": np.mean([*self.ious(BACKGROUNDS).values()]),
            "object mIoU, every scene that offers it": np.mean([*self.strict_ious(nouns).values()]),
            **{key: self.mean(key) for key in self.lists},
            **self.shares(),
        }

    def shares(self):
        if "IoU of the name" not in self.lists:
            return {}
        name = self.mean("IoU of the name")
        return {f"{kind}'s share": self.mean(f"IoU of a {kind}") / name for kind in ("synonym", "superclass")}
