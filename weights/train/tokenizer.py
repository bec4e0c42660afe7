"""CLIP's byte-pair tokens with the first merges only: `lseg_train`'s, cut to the demo tower's context."""

from lseg_train.tokens import Tokenizer

VOCABULARY = 5120
"""Rows of the token table: 256 bytes, 256 bytes at a word's end, the merges, start and end."""

CONTEXT = 32

_tokens = Tokenizer(VOCABULARY)
START, END = _tokens.start, _tokens.end


def encode(text):
    """Ids of a label, start and end included, cut to the context."""
    return [*_tokens(text)[:-1][: CONTEXT - 1], END]
