"""Reads every file of the data sets once and tells what is in them and what is wrong."""

import time
from dataclasses import dataclass, field

import numpy as np

from .errors import Refused
from .lists import shown
from .samples import IGNORED, OTHER

SAID_EVERY = 5.0
"""Seconds."""


@dataclass
class SetReport:
    name: str
    photos: int
    """Those that could be read."""
    failed: int
    smallest: tuple[int, int] | None
    """Width and height of the photo with the fewest pixels."""
    largest: tuple[int, int] | None
    pixels: dict[str, int]
    """Of each label by its name; of episodes "others" and every class."""
    ignored: int
    other: int

    def never(self):
        """Labels without a pixel."""
        return [name for name, count in self.pixels.items() if not count]

    def lines(self):
        yield f"{shown(self.name)}: {self.photos} photos" + (f", {self.failed} cannot be used" if self.failed else "")
        if not self.photos:
            return
        total = sum(self.pixels.values()) + self.ignored + self.other
        (w, h), (wide, high) = self.smallest, self.largest
        yield f"  {w}×{h} to {wide}×{high} pixels"
        yield f"  {share(self.ignored, total)} ignored, {share(self.other, total)} other"
        there = sorted((item for item in self.pixels.items() if item[1]), key=lambda item: -item[1])
        for name, count in there:
            yield f"  {share(count, total):>7}  {count:>12}  {shown(name)}"
        if never := self.never():
            yield f"  never: {', '.join(map(shown, never))}"


@dataclass
class Report:
    sets: list[SetReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """One a line: "FILE: expected …, found …"."""

    def lines(self):
        for found in self.sets:
            yield from found.lines()
        yield from self.problems


def share(part, whole):
    return f"{100 * part / whole:.2f} %"


def inspect(data_sets, refuse_word, say):
    """The `Report`. `refuse_word` tells what is wrong with a word, or None; `say` is told every few seconds how far it
    is."""
    report = Report()
    for data_set in data_sets:
        for word in data_set.words():
            if (wrong := refuse_word(word)) is not None:
                report.problems.append(f"data {shown(data_set.name)}: word {shown(word)!r}: {wrong}")
        report.sets.append(inspected(data_set, report.problems, say))
    return report


def inspected(data_set, problems, say):
    places = {own[0]: i for i, own in enumerate(data_set.labels)}
    counts = np.zeros(len(data_set.labels) + 2, np.int64)  # the last two are OTHER's and IGNORED's, -2 and -1
    smallest = largest = None
    failed, told = 0, time.monotonic()
    for i in range(len(data_set)):
        if time.monotonic() - told > SAID_EVERY:
            told = time.monotonic()
            say(f"{shown(data_set.name)}: {i} of {len(data_set)} photos read")
        try:
            sample = data_set.load(i)
        except Refused as wrong:
            problems.append(str(wrong))
            failed += 1
            continue
        own = np.array([*(places[label[0]] for label in sample.labels), OTHER, IGNORED])
        found = np.bincount(sample.truth.ravel() + 2, minlength=len(sample.labels) + 2)
        np.add.at(counts, own, np.roll(found, -2))
        size = sample.photo.shape[1::-1]
        smallest = min(smallest or size, size, key=area)
        largest = max(largest or size, size, key=area)
    pixels = {name: int(counts[i]) for name, i in places.items()}
    read = len(data_set) - failed
    return SetReport(data_set.name, read, failed, smallest, largest, pixels, int(counts[IGNORED]), int(counts[OTHER]))


def area(size):
    return size[0] * size[1]
