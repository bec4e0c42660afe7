"""Small files of strangers, read as data: lists of labels, of mask values and of photos, ADE20K's table, pickles."""

import os
import pickletools
import re

from .errors import Refused

MOST_BYTES = 64 << 20
MOST_LABELS = 10_000


def shown(text):
    """Text of a file as it may stand in a message: one line, no control characters, not endless."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return text if len(text) <= 200 else text[:200] + "…"


def whole(path, expected):
    """All bytes of a file; `expected` says in messages what it should be."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Refused(
            f"{shown(path)}: expected {expected}, found no file that can be read ({error.strerror})"
        ) from None
    if len(data) > MOST_BYTES:
        raise Refused(f"{shown(path)}: expected {expected}, found more than {MOST_BYTES >> 20} MiB")
    return data


def lines(path, expected):
    """[(number from 1, line without spaces around it)], without the empty ones at the end and without comments (#)."""
    data = whole(path, expected)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n")
        raise Refused(
            f"{shown(path)}: expected {expected} in UTF-8, found other bytes in line {line}; save it as UTF-8"
        ) from None
    found = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    found = [(number, line) for number, line in found if not line.startswith("#")]
    while found and not found[-1][1]:
        found.pop()
    if not found:
        raise Refused(f"{shown(path)}: expected {expected}, found an empty file")
    return found


def key(word):
    """What two words have in common that are the same word."""
    return word.strip().lower()


def labels(path):
    """The labels of a file, one a line: its name, then its synonyms, each behind a semicolon."""
    found, seen = [], {}
    for number, line in lines(path, "one label a line"):
        words = tuple(word.strip() for word in line.split(";"))
        if not all(words):
            raise Refused(
                f"{shown(path)}: expected a label, found nothing in line {number}; remove it or write a word there"
            )
        for word in words:
            if key(word) in seen:
                raise Refused(
                    f"{shown(path)}: expected every word once, found {shown(word)!r} in line {number} and in line "
                    f"{seen[key(word)]}; keep one of them"
                )
            seen[key(word)] = number
        found.append(words)
    if len(found) > MOST_LABELS:
        raise Refused(f"{shown(path)}: expected at most {MOST_LABELS} labels, found {len(found)}")
    return found


def values(path, own):
    """{mask value: label} of a file with lines such as "7 road", as of `lseg-fast eval --map`. `own`: the labels."""
    index = {key(word): i for i, words in enumerate(own) for word in words}
    found = {}
    for number, line in lines(path, "a mask's value and a label a line"):
        if not line:
            continue
        value, word = re.fullmatch(r"(\d*)[\s,]*(.*)", line, re.ASCII).groups()
        if not (1 <= len(value) <= 5 and int(value) < 1 << 16 and word and not line[len(value)].isalnum()):
            raise Refused(
                f"{shown(path)}: expected a mask's value (0 to 65535) and a label such as '7 road', found "
                f"{shown(line)!r} in line {number}"
            )
        if key(word) not in index:
            raise Refused(
                f"{shown(path)}: expected one of the {len(own)} labels, found {shown(word)!r} in line {number}"
            )
        if int(value) in found:
            raise Refused(
                f"{shown(path)}: expected every value once, found {value} again in line {number}; keep one of them"
            )
        found[int(value)] = index[key(word)]
    return found


def is_ade20k_table(path):
    return lines(path, "ADE20K's labels")[0][1].startswith("Idx")


def ade20k_table(path):
    """objectInfo150.txt -> (labels, for each row the index of its label).

    The archive's table has tabs between its columns and commas between a label's synonyms. LSeg's has commas, and
    semicolons between all words, also those of one name ("screen;door"), so of it only the first word counts, as in
    LSeg; "screen" is then there twice, and both rows are the first label's, as in `lseg-fast eval`.
    A synonym that an earlier label has, or that is a name, stays with that one."""
    rows = [line for _, line in lines(path, "ADE20K's table of labels")]
    if len(rows) < 2:
        raise Refused(f"{shown(path)}: expected ADE20K's table of labels, found its first line alone")
    if "\t" in rows[0]:
        every = [[word.strip() for word in row.rsplit("\t", 1)[-1].split(",")] for row in rows[1:]]
    else:
        every = [[row.rsplit(",", 1)[-1].split(";")[0].strip()] for row in rows[1:]]
    for number, words in enumerate(every, 2):
        if not words[0]:
            raise Refused(f"{shown(path)}: expected a name in the last column, found none in line {number}")
    places = {}
    for words in every:
        places.setdefault(key(words[0]), len(places))
    taken, found = set(places), [None] * len(places)
    for words in every:
        place = places[key(words[0])]
        if found[place] is None:
            synonyms = [w for w in dict.fromkeys(words[1:]) if w and key(w) not in taken]
            taken.update(map(key, synonyms))
            found[place] = (words[0], *synonyms)
    return found, [places[key(words[0])] for words in every]


NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1"}
TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
PUTS = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}
GETS = {"BINGET", "LONG_BINGET"}


def pickled_lists(path):
    """{class: [photos]} of a pickle that holds only that. Its operations are followed here, without `pickle`: none that
    could call anything is known."""
    data, expected = whole(path, "a pickled dict of lists of photos"), "expected a pickled dict of lists of photos"
    stack, marks, memo = [], [], {}

    def above_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    try:
        for operation, argument, _ in pickletools.genops(data):
            name = operation.name
            if name in NUMBERS or name in TEXTS:
                stack.append(argument)
            elif name == "EMPTY_DICT":
                stack.append({})
            elif name == "EMPTY_LIST":
                stack.append([])
            elif name == "MARK":
                marks.append(len(stack))
            elif name in PUTS:
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            elif name in GETS:
                stack.append(memo[argument])
            elif name in ("APPEND", "APPENDS"):
                items = above_mark() if name == "APPENDS" else [stack.pop()]
                stack[-1].extend(items)
            elif name in ("SETITEM", "SETITEMS"):
                items = above_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            elif name not in ("PROTO", "FRAME", "STOP"):
                raise Refused(f"{shown(path)}: {expected}, found one that asks for {name}; it was not executed")
        (found,) = stack
        lists = {**found}
        if not all(type(k) is int and type(v) is list and all(type(n) is str for n in v) for k, v in lists.items()):
            raise TypeError("other types")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, UnicodeError):
        raise Refused(f"{shown(path)}: {expected}, found something else") from None
    return lists


def inside(folder, name, path):
    """The path, a string, of the file `name` of a list `path` below `folder`."""
    leads_out = os.path.isabs(name) or os.path.splitdrive(name)[0] or ".." in name.replace("\\", "/").split("/")
    if not name or leads_out or "\0" in name:
        raise Refused(f"{shown(path)}: expected names of files in {shown(folder)}, found {shown(name)!r}")
    return os.path.join(folder, name)
