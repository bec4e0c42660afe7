"""Which words are offered for a scene, and which of them each pixel is to get."""

from dataclasses import dataclass

import numpy as np

from things import BACKGROUNDS, HELD_OUT_NAMES, NAMED, OTHER, SUPERCLASSES, TRAINED, superclasses_of, words_of

FORMS = ["{}", "a {}", "a photo of a {}"]
FORM_SHARE = [0.88, 0.06, 0.06]


def every_text():
    """All that `LabelSets` may offer but gibberish."""
    words = {w for name in NAMED for w in words_of(name)} | {w for words, _ in SUPERCLASSES for w in words}
    return [form.format(w) for w in sorted(words) for form in FORMS] + OTHER


def may_be_called(word, name):
    """Whether a word is right for a thing, if not its own name."""
    return word in words_of(name) or any(word in SUPERCLASSES[i][0] for i in superclasses_of(name))


@dataclass
class LabelSet:
    texts: list[str]
    answer: np.ndarray
    """For each of the scene's things: the index of its text; -1 where no text is right."""


class LabelSets:
    """Draws label sets: what is there by name, synonym or superclass, or left out; words that are not there; a word
    for the rest, one time in three a meaningless one."""

    def __init__(self, rng, gibberish, most):
        self.rng, self.gibberish, self.most = rng, gibberish, most

    def pick(self, items):
        return items[self.rng.integers(len(items))]

    def form(self, word):
        return self.rng.choice(FORMS, p=FORM_SHARE).format(word)

    def __call__(self, names) -> LabelSet:
        rng = self.rng
        present = [n for n in names if n is not None]
        self.texts, self.used, self.chosen, self.supers = [], set(), {}, {}
        left_out = 0.15 if rng.random() < 0.7 else 0.6
        for i in rng.permutation(len(present)):
            if rng.random() >= left_out:
                self.offer(present[i], present)
        for index, text in self.supers.items():  # a name of its own wins over its superclass
            for other in present:
                if other in SUPERCLASSES[index][1]:
                    self.chosen.setdefault(other, text)
        rest = -1
        if len(self.chosen) < len(names) or rng.random() < 0.6:
            rest = len(self.texts)
            self.texts.append(self.pick(self.gibberish if rng.random() < 0.35 else OTHER))
        self.distract(present)
        answer = [self.chosen.get(n, rest) if n is not None else rest for n in names]
        return LabelSet(self.texts, np.array(answer))

    def offer(self, name, present):
        rng = self.rng
        if name in self.chosen:
            return
        above = superclasses_of(name)
        if above and rng.random() < 0.3:
            index = self.pick(above)
            members = SUPERCLASSES[index][1]
            # Two superclasses that share a thing of the scene would both be right for it.
            if index in self.supers or any(
                n in members and n in SUPERCLASSES[i][1] for n in present for i in self.supers
            ):
                return
            word = self.pick(SUPERCLASSES[index][0])
            if word not in self.used:
                self.supers[index] = self.add(word)
        else:
            words = words_of(name)
            word = words[0] if rng.random() < 0.6 else self.pick(words)
            if word not in self.used:
                self.chosen[name] = self.add(word)

    def add(self, word):
        self.used.add(word)
        self.texts.append(self.form(word))
        return len(self.texts) - 1

    def distract(self, present):
        rng = self.rng
        room = self.most - len(self.texts)
        for _ in range(int(rng.integers(1, room + 1)) if room > 0 else 0):
            word = self.absent_word(present)
            if word not in self.used and not any(may_be_called(word, n) for n in present):
                self.add(word)

    def absent_word(self, present):
        kind = self.rng.random()
        if kind < 0.12:
            return self.pick(self.pick(SUPERCLASSES)[0])
        if kind < 0.4 and present:  # hard: of the same kind as something that is there
            name = self.pick(present)
            if name in BACKGROUNDS:
                return self.pick(list(BACKGROUNDS) + ["tree"])
            above = superclasses_of(name)
            family = SUPERCLASSES[self.pick(above)][1] if above else TRAINED
            return self.pick([n for n in family if n not in HELD_OUT_NAMES])
        if kind < 0.85:
            return self.pick(TRAINED)
        return self.pick(list(BACKGROUNDS))
