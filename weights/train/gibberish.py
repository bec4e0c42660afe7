"""Words that mean nothing, without end: most can be spoken, some are spliced from real words, some are keyboard noise."""

from functools import lru_cache

from things import MEANINGLESS_TEST

_ONSETS = (
    "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sc sh sk sl sm sn sp st str t th tr tw v vl "
    "w wh wr x y z zh"
).split()
_VOWELS = "a a e e i i o o u u ai ea ee io oo ou oy y".split()
_CODAS = (
    "b bb bble ck d ff g gg k ld ll lk m mp n nd ng nk nt p q r rb rd rk rp s sk ss st t tch th tz v w x z zz zzik rf lp ft"
).split()
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _pick(rng, items):
    return items[rng.integers(len(items))]


def _spoken(rng):
    word = ""
    for _ in range(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2])):
        word += (_pick(rng, _ONSETS) if rng.random() < 0.92 else "") + _pick(rng, _VOWELS)
        word += _pick(rng, _CODAS) if rng.random() < 0.55 else ""
    return word


def _noise(rng):
    kind = rng.random()
    length = int(rng.integers(3, 8))
    if kind < 0.3:  # a run along the keyboard
        row = _pick(rng, _ROWS)
        start = int(rng.integers(len(row) - 2))
        run = row[start : start + length]
        return run[::-1] if rng.random() < 0.3 else run
    if kind < 0.5:  # one or two letters, again and again
        unit = "".join(_pick(rng, _LETTERS) for _ in range(int(rng.integers(1, 3))))
        return (unit * length)[:length]
    return "".join(_pick(rng, _LETTERS) for _ in range(length))


@lru_cache(4)
def _alphabetic(words):
    return sorted(w for w in words if w.isalpha())


def _spliced(rng, real):
    """The beginning of a word and the end of another: familiar pieces, no meaning."""
    first, second = _pick(rng, real), _pick(rng, real)
    return first[: int(rng.integers(2, 5))] + second[-int(rng.integers(2, 5)) :]


def gibberish(rng, count, real_words):
    """`count` words that are neither real nor among those of the test."""
    words, real = [], _alphabetic(real_words)
    while len(words) < count:
        kind = rng.random()
        word = _spoken(rng) if kind < 0.5 else _spliced(rng, real) if kind < 0.8 else _noise(rng)
        if 3 <= len(word) <= 12 and word not in real_words and word not in MEANINGLESS_TEST:
            words.append(word)
    return words
