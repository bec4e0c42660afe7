"""CLIP's byte-pair tokenizer with the first merges only, for plain labels (the product's own cleans any string)."""

import gzip
import itertools
from functools import lru_cache

import regex

from sources import HERE

VOCABULARY = 5120
"""Rows of the token table: 256 bytes, 256 bytes at a word's end, the merges, start and end."""

CONTEXT = 32
START, END = VOCABULARY - 2, VOCABULARY - 1

_MERGES = HERE.parent / "vocab" / "bpe_simple_vocab_16e6.txt.gz"
_PIECES = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE)


def _byte_characters():
    """The printable character that stands for each byte, in the order of the ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


_BYTES = _byte_characters()
with gzip.open(_MERGES, "rt", encoding="utf-8") as _file:
    _RULES = [tuple(line.split()) for line in _file.read().split("\n")[1 : 1 + VOCABULARY - 514]]
_RANK = {rule: i for i, rule in enumerate(_RULES)}
_SYMBOLS = [*_BYTES.values(), *(c + "</w>" for c in _BYTES.values()), *("".join(rule) for rule in _RULES)]
_IDS = {symbol: i for i, symbol in enumerate(_SYMBOLS)}


@lru_cache(1 << 17)
def _piece(piece):
    symbols = [_BYTES[b] for b in piece.encode()]
    symbols[-1] += "</w>"
    while len(symbols) > 1:
        rank, i = min((_RANK.get(pair, len(_RANK)), i) for i, pair in enumerate(itertools.pairwise(symbols)))
        if rank == len(_RANK):
            break
        pair, merged, i = _RULES[rank], [], 0
        while i < len(symbols):
            step = 2 if tuple(symbols[i : i + 2]) == pair else 1
            merged.append("".join(symbols[i : i + step]))
            i += step
        symbols = merged
    return [_IDS[s] for s in symbols]


def encode(text):
    """Ids of a label, start and end included, cut to the context."""
    ids = [i for piece in _PIECES.findall(" ".join(text.lower().split())) for i in _piece(piece)]
    return [START, *ids[: CONTEXT - 2], END]
