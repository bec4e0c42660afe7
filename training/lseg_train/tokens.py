"""CLIP's byte-pair tokens of labels: cleaned, split and merged as open_clip does it.

The program cleans any string as ftfy does (src/tokenizer/clean.rs). Here are the steps that the words of a label file
need: full-width forms, ligatures, curly quotes, NFC, case and spaces; what would need more is refused
(`unreadable`)."""

import gzip
import html
import itertools
import unicodedata
from functools import lru_cache
from pathlib import Path

MERGES = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
BYTES = 512
"""Symbols that are no merge: 256 bytes, and 256 at a word's end."""

CONTRACTIONS = ("'re", "'ve", "'ll", "'s", "'t", "'m", "'d")
UNSEEN = ("Cc", "Cf", "Co", "Cs")
JOINERS = "\u200c\u200d"
"""Of emoji and of scripts."""

ODD = "\u0345\u017f"
"""Their case is not what their letters say: a combining iota and the long s."""

STRAIGHT = str.maketrans({**dict.fromkeys("\u02bc‘’‚‛", "'"), **dict.fromkeys("“”„‟", '"')})
LIGATURES = "ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬆ"
NORMAL_WIDTH = range(0xFF01, 0xFFF0)
SPECIAL = ("<start_of_text>", "<end_of_text>")


def clean(text):
    """As open_clip cleans a text that is not `unreadable`: lower-cased, with single spaces."""
    text = "".join(simplified(c) for c in text).translate(STRAIGHT)
    return " ".join(unicodedata.normalize("NFC", text).split()).lower()


def simplified(c):
    if c in LIGATURES or ord(c) in NORMAL_WIDTH or c == "\u3000":
        return unicodedata.normalize("NFKC", c)
    return "ſt" if c == "ﬅ" else c


def unreadable(text):
    """Why a text is no label here, or None: the program has rules of its own for these."""
    found = next((c for c in text if (unicodedata.category(c) in UNSEEN and c not in JOINERS) or c in ODD), None)
    if found:
        return f"U+{ord(found):04X} is in it"
    if any(html.unescape(form) != form for form in (text, clean(text))):
        return "a character reference of HTML is in it"
    found = next((word for word in SPECIAL if word in text.lower()), None)
    return f"{found} is a token of the text tower's own" if found else None


def kind(c):
    """Runs of letters and of other signs make a piece; a digit is one by itself; white space parts them."""
    if c.isspace():
        return "space"
    return {"L": "letters", "N": "number"}.get(unicodedata.category(c)[0], "signs")


def pieces(text):
    """`'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|[^\\s\\p{L}\\p{N}]+` without a library of its own."""
    at = 0
    while at < len(text):
        short = next((c for c in CONTRACTIONS if text.startswith(c, at)), None)
        found = kind(text[at])
        end = at + (len(short) if short else 1)
        if not short and found in ("letters", "signs"):
            while end < len(text) and kind(text[end]) == found:
                end += 1
        if found != "space":
            yield text[at:end]
        at = end


def byte_characters():
    """The printable character that stands for each byte, in the order of the ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


class Tokenizer:
    """Of a tower with `vocab` rows, which knows the first `vocab` - 514 merges."""

    def __init__(self, vocab):
        self.start, self.end = vocab - 2, vocab - 1
        self.bytes = byte_characters()
        with gzip.open(MERGES, "rt", encoding="utf-8") as file:
            rules = [tuple(line.split()) for line in file.read().split("\n")[1 : 1 + vocab - BYTES - 2]]
        self.rank = {rule: i for i, rule in enumerate(rules)}
        symbols = [*self.bytes.values(), *(c + "</w>" for c in self.bytes.values()), *map("".join, rules)]
        self.ids = {symbol: i for i, symbol in enumerate(symbols)}
        self.of_piece = lru_cache(1 << 16)(self.merged)

    def merged(self, piece):
        symbols = [self.bytes[b] for b in piece.encode()]
        symbols[-1] += "</w>"
        while len(symbols) > 1:
            ranked = [(self.rank.get(pair, len(self.rank)), i) for i, pair in enumerate(itertools.pairwise(symbols))]
            rank, i = min(ranked)
            if rank == len(self.rank):
                break
            first, second = symbols[i : i + 2]
            joined, i = [], 0
            while i < len(symbols):
                both = symbols[i : i + 2] == [first, second]
                joined.append(first + second if both else symbols[i])
                i += 2 if both else 1
            symbols = joined
        return [self.ids[s] for s in symbols]

    def __call__(self, text):
        """Ids, start and end included, of any length."""
        return [self.start, *(i for piece in pieces(clean(text)) for i in self.of_piece(piece)), self.end]
