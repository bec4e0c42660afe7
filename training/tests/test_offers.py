"""Words and answers, by random trials of what must hold for each."""

import numpy as np
import pytest

from lseg_train.offers import answers, offer
from lseg_train.samples import IGNORED, OTHER, Sample

TRIALS = 300


def random_sample(rng, most=12, with_other=0.5):
    labels = [tuple(f"{'abc'[k]}{i}" for k in range(rng.integers(1, 4))) for i in range(rng.integers(1, most))]
    values = np.concatenate([rng.choice(len(labels), rng.integers(0, len(labels) + 1), replace=False), [IGNORED]])
    if rng.random() < with_other:
        values = np.append(values, OTHER)
    return Sample(np.zeros((9, 11, 3), np.uint8), rng.choice(values, (9, 11)).astype(np.int16), labels)


def present_in(sample):
    return [i for i in range(len(sample.labels)) if (sample.truth == i).any()]


def label_of(word):
    return int(word[1:]) if word != "other" else None


@pytest.mark.parametrize("synonyms", ["random", "first"])
@pytest.mark.parametrize("leave_out", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("negatives", [None, 0, 3, 100])
def test_what_holds_of_every_offer(negatives, leave_out, synonyms):
    rng = np.random.default_rng(0)
    for _ in range(TRIALS):
        sample = random_sample(rng)
        found = offer(sample, rng, negatives, leave_out, synonyms)
        present, offered = present_in(sample), [label_of(word) for word in found.words if word != "other"]
        assert len(set(found.words)) == len(found.words) and found.answer.dtype == np.int64
        assert len(found.answer) == len(sample.labels)
        # Every word is one of its label's; `answer` leads from each offered label to its word.
        for place, word in enumerate(found.words):
            if word != "other":
                assert word in sample.labels[label_of(word)] and found.answer[label_of(word)] == place
                assert synonyms == "random" or word == sample.labels[label_of(word)][0]
        # What is there is offered, or left out and then "other".
        left_out = [i for i in present if i not in offered]
        assert all(found.answer[i] == found.other >= 0 for i in left_out)
        assert leave_out > 0 or not left_out
        assert leave_out < 1 or left_out == present
        # What is absent: all of it, or so many.
        absent = [i for i in offered if i not in present]
        there = len(sample.labels) - len(present)
        assert len(absent) == (there if negatives is None else min(negatives, there))
        assert all(
            found.answer[i] == IGNORED for i in range(len(sample.labels)) if i not in offered and i not in present
        )
        # "other" where it is needed, and only there; it is last.
        needed = (sample.truth == OTHER).any() or len(offered) < len(sample.labels)
        assert (found.other >= 0) == needed == ("other" in found.words)
        assert not needed or found.other == len(found.words) - 1 == found.words.index("other")


@pytest.mark.parametrize("negatives", [None, 2])
def test_answers_are_right_for_each_pixel(negatives):
    rng = np.random.default_rng(1)
    for _ in range(TRIALS):
        sample = random_sample(rng)
        found = offer(sample, rng, negatives, 0.3, "random")
        answer = answers(sample.truth, found)
        assert answer.dtype == np.int64 and answer.shape == sample.truth.shape
        for truth, place in zip(sample.truth.ravel().tolist(), answer.ravel().tolist()):
            if truth == IGNORED:
                assert place == -1
            elif truth == OTHER:
                assert found.words[place] == "other"
            else:
                assert found.words[place] in (*sample.labels[truth], "other")


def test_published_offers_are_every_label_in_order():
    rng = np.random.default_rng(2)
    for _ in range(TRIALS):
        sample = random_sample(rng, with_other=0)
        found = offer(sample, rng, None, 0.0, "first")
        assert found.words == [own[0] for own in sample.labels] and found.other == -1
        assert (answers(sample.truth, found) == sample.truth).all()


def test_order_negatives_and_synonyms_are_random():
    sample = Sample(None, np.array([[0, 1]], np.int16), [(f"a{i}", f"b{i}", f"c{i}") for i in range(8)])
    rng = np.random.default_rng(3)
    words = [offer(sample, rng, 3, 0.0, "random").words for _ in range(1500)]
    firsts = np.bincount([label_of(w[0]) for w in words], minlength=8) / 1500
    assert abs(firsts[:2] - 1 / 5).max() < 0.05 and abs(firsts[2:] - 3 / 5 / 6).max() < 0.04
    drawn = np.bincount([label_of(w) for own in words for w in own[:-1]], minlength=8) / 1500
    assert (drawn[:2] == 1).all() and abs(drawn[2:] - 0.5).max() < 0.06
    kinds = [w[0] for own in words for w in own[:-1]]
    assert all(abs(kinds.count(kind) / len(kinds) - 1 / 3) < 0.05 for kind in "abc")


def test_as_many_are_left_out_as_asked():
    sample = Sample(None, np.arange(10, dtype=np.int16)[None], [(f"a{i}",) for i in range(10)])
    rng = np.random.default_rng(4)
    left = [10 - (len(offer(sample, rng, 0, 0.3, "first").words) - 1) for _ in range(500)]
    assert abs(np.mean(left) - 3) < 0.3


@pytest.mark.parametrize("negatives", [None, 0, 1])
def test_a_label_named_other_is_what_other_pixels_are(negatives):
    rng = np.random.default_rng(5)
    for truth in ([[0, 2, OTHER, IGNORED]], [[0, 1, OTHER, 2]], [[OTHER, 0, 0, 0]]):
        for _ in range(50):
            sample = Sample(None, np.array(truth, np.int16), [("a0",), ("Other", "rest"), ("a2",), ("a3",)])
            found = offer(sample, rng, negatives, 0.5, "random")
            assert found.other == found.answer[1] >= 0 and found.words[found.other] in ("Other", "rest")
            assert "other" not in found.words and len(set(found.words)) == len(found.words)
            answer = answers(sample.truth, found)
            assert (answer[sample.truth == OTHER] == found.other).all() and (
                answer[sample.truth == 1] == found.other
            ).all()


def test_episodes_have_both_words():
    rng = np.random.default_rng(6)
    for truth in ([[0, 1, IGNORED]], [[0, 0, 0]], [[1, 1, 1]]):
        sample = Sample(None, np.array(truth, np.int16), [("others",), ("dog",)], episode=True)
        for negatives in (None, 0, 5):
            found = offer(sample, rng, negatives, 1.0, "random")
            assert found.words == ["others", "dog"] and found.other == -1
            assert answers(sample.truth, found).tolist() == truth
