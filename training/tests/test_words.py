"""Tokens are open_clip's, vectors are the program's."""

import gzip
import json
import subprocess

import numpy as np
import pytest
import torch
from conftest import DEMO, REPOSITORY

from lseg_train.errors import Refused
from lseg_train.files import read_model
from lseg_train.tokens import Tokenizer, unreadable
from lseg_train.words import Words

# Texts that no label file has: control characters and character references are refused, not guessed at.
MAY_BE_REFUSED = {"controls", "breaks", "blanks", "specials", "entities", "odd_numbers", "html_tags", "long_text", "mixed",
                  "combining", "contractions", "emoji", "widths"}  # fmt: skip


def test_tokens_are_open_clips_or_the_text_is_refused():
    cases = json.loads(gzip.decompress((REPOSITORY / "tests/golden/tokenizer.json.gz").read_bytes()))
    encode, refused = Tokenizer(49408), {}
    for case in cases["cases"]:
        if unreadable(case["text"]):
            refused.setdefault(case["kind"], []).append(case["text"])
        else:
            assert encode(case["text"]) == case["ids"], case["text"]
    assert refused.keys() <= MAY_BE_REFUSED
    assert len(cases["cases"]) == 2000 and sum(map(len, refused.values())) < 600
    for vocab in {c["vocab"] for c in cases["cut"]}:
        encode = Tokenizer(vocab)
        for case in (c for c in cases["cut"] if c["vocab"] == vocab and not unreadable(c["text"])):
            assert encode(case["text"]) == case["ids"], case["text"]


def words_of_demo():
    model = read_model(DEMO)
    return Words(model.config["text"], model.config["embed_dim"], model.text)


LABELS = [
    "dog",
    "Tall  Grass",
    "other",
    "señal de tráfico",
    "道路",
    "a photo of a “taxi”",
    "ﬂower",
    "🐕",
    "T-shirt's 12",
    "ＡＢＣ",
]


def test_vectors_are_the_programs(program, tmp_path):
    (tmp_path / "labels.txt").write_text("".join(f'"{label}"\n' for label in LABELS), encoding="utf-8")
    out = tmp_path / "vectors.npy"
    call = [program, "text", "--labels", f"@{tmp_path / 'labels.txt'}", "--model", DEMO, "--out", out, "--quiet"]
    subprocess.run(list(map(str, call)), check=True)
    assert np.abs(words_of_demo()(LABELS).numpy() - np.load(out)).max() < 1e-5


def test_a_word_is_computed_once():
    words, calls = words_of_demo(), []
    words.tower.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    first = words(["dog", "cat", "dog"])
    assert torch.equal(words(["cat"])[0], first[1]) and calls == [2]
    assert not any(p.requires_grad for p in words.tower.parameters())


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("dog " * 40, "40 tokens, at most 30"),
        ("  ", "empty"),
        ("a\x07b", r"U\+0007"),
        ("AT&amp;T", "reference"),
        ("<end_of_text>", "own"),
    ],
)
def test_words_without_vectors_are_refused(word, why):
    with pytest.raises(Refused, match=why):
        words_of_demo()([word])
    assert words_of_demo().problem("AT&T") is None
