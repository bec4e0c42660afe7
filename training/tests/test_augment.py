"""Random squares of samples: the mask stays on the photo, what is filled has its own values."""

import numpy as np
import pytest
from PIL import Image

import trees
from lseg_train.augment import augmented, fitted
from lseg_train.samples import IGNORED, OTHER, Sample

COLOURS = np.array(
    [[250, 10, 10], [10, 250, 10], [10, 10, 250], [240, 240, 10], [250, 250, 250], [90, 90, 90]], np.uint8
)
"""The last two are of OTHER and IGNORED."""


def sample(seed, values=(0, 1, 2, 3)):
    """A photo painted with its truth's own colours."""
    truth = trees.painted(np.random.default_rng(seed), list(values)).astype(np.int16)
    truth[30:36, 10:40], truth[5:9, 30:60] = IGNORED, OTHER
    return Sample(COLOURS[truth % 6], truth, [(str(v),) for v in values])


def within(truth, reach):
    """Where all pixels up to `reach` away are the same."""
    height, width = truth.shape
    same = np.ones_like(truth, bool)
    around = np.pad(truth, reach, constant_values=-99)
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            same &= around[dy : dy + height, dx : dx + width] == truth
    return same


def test_masks_stay_on_their_photos():
    rng, checked = np.random.default_rng(0), 0
    samples = [sample(seed) for seed in range(10)]
    for draw in range(1000):
        photo, truth = augmented(samples[draw % 10], rng, crop=48, base=64, pad=-9)
        assert (
            photo.dtype == np.uint8
            and photo.shape == (48, 48, 3)
            and truth.dtype == np.int16
            and truth.shape == (48, 48)
        )
        inner = within(truth, 3) & (truth != -9)
        nearest = np.abs(photo[inner][:, None].astype(int) - COLOURS).sum(2).argmin(1)
        assert (nearest == truth[inner] % 6).all()
        checked += inner.sum()
    assert checked > 1000 * 400


def test_masks_are_never_mixed():
    rng, whole = np.random.default_rng(10), sample(4, (0, 50, 200))
    for _ in range(100):
        assert set(np.unique(augmented(whole, rng, crop=48, base=64)[1])) <= {0, 50, 200, OTHER, IGNORED}


@pytest.mark.parametrize("pad", [IGNORED, 0, 3])
def test_what_is_filled_is_black_and_pad(pad):
    rng, whole = np.random.default_rng(1), sample(3)
    whole.truth[:], whole.photo[:] = 2, 200
    for _ in range(100):
        photo, truth = augmented(whole, rng, crop=100, base=64, pad=pad, jitter=1.0)
        filled = truth == pad
        rows, columns = (~filled).any(1).sum(), (~filled).any(0).sum()
        assert (truth[:rows, :columns] == 2).all() and filled[rows:].all() and filled[:, columns:].all()
        assert (photo[filled] == 0).all() and (photo[~filled] > 0).any(1).all()


def test_sizes_are_pytorch_encodings():
    """Of a photo that is one colour the sizes show in what is not filled: the longer side from base/2 to 2 base, both
    ends among them, the shorter int(short · long / longer + 0.5)."""
    rng = np.random.default_rng(2)
    for height, width in ((30, 50), (50, 30), (40, 40)):
        seen = set()
        for _ in range(400):
            whole = Sample(np.full((height, width, 3), 9, np.uint8), np.ones((height, width), np.int16), [("a",)] * 2)
            _, truth = augmented(whole, rng, crop=64, base=31)
            rows, columns = (truth == 1).any(1).sum(), (truth == 1).any(0).sum()
            longer, shorter = max(rows, columns), min(rows, columns)
            assert shorter == int(min(height, width) * longer / max(height, width) + 0.5)
            assert (rows > columns) == (height > width) or height == width
            seen.add(int(longer))
        assert seen == set(range(15, 63))


def test_squares_lie_anywhere():
    whole = Sample(np.zeros((64, 64, 3), np.uint8), np.arange(64 * 64, dtype=np.int16).reshape(64, 64), [])
    rng, corners = np.random.default_rng(3), set()
    for _ in range(3000):
        _, truth = augmented(whole, rng, crop=56, base=64, scales=(1.0, 1.0), mirror=False)
        assert (truth == whole.truth[truth[0, 0] // 64 :][:56, truth[0, 0] % 64 :][:, :56]).all()
        corners.add((int(truth[0, 0]) // 64, int(truth[0, 0]) % 64))
    assert corners == {(y, x) for y in range(9) for x in range(9)}


def test_half_are_mirrored():
    whole = Sample(np.zeros((64, 64, 3), np.uint8), np.tile(np.arange(64, dtype=np.int16), (64, 1)), [])
    rng = np.random.default_rng(4)
    squares = [augmented(whole, rng, crop=64, base=64, scales=(1.0, 1.0))[1] for _ in range(1000)]
    mirrored = sum(bool((truth == whole.truth[:, ::-1]).all()) for truth in squares)
    assert 430 < mirrored < 570 and all((truth == whole.truth).all() or truth[0, 0] == 63 for truth in squares)
    unmirrored = (augmented(whole, rng, crop=64, base=64, scales=(1.0, 1.0), mirror=False)[1] for _ in range(50))
    assert all((truth == whole.truth).all() for truth in unmirrored)


def test_the_same_numbers_make_the_same_square():
    for jitter in (0.0, 1.0):
        one, two = (augmented(sample(5), np.random.default_rng(6), 48, 64, jitter=jitter) for _ in range(2))
        assert (one[0] == two[0]).all() and (one[1] == two[1]).all()


def test_jitter_changes_colours_as_the_demos_training_did():
    """Values from -1 to 1: a gain of spread 0.15, a shift of spread 0.1 a channel."""
    rng, gains, shifts = np.random.default_rng(7), [], []
    whole = Sample(np.full((8, 8, 3), 64, np.uint8), np.zeros((8, 8), np.int16), [("a",)])
    whole.photo[:, 4:] = 192
    for _ in range(2000):
        photo, _ = augmented(whole, rng, crop=8, base=8, scales=(1.0, 1.0), mirror=False, jitter=1.0)
        dark, light = photo[0, 0] / 127.5 - 1, photo[0, 7] / 127.5 - 1
        gains.append((light - dark)[0] / (128 / 127.5))
        shifts.append((dark + light) / 2)
    assert abs(np.mean(gains) - 1) < 0.02 and abs(np.std(gains) - 0.15) < 0.02
    assert abs(np.mean(shifts)) < 0.02 and abs(np.std(shifts) - 0.1) < 0.01
    assert abs(np.corrcoef(np.array(shifts).T) - np.eye(3)).max() < 0.1


def test_jitter_clips():
    photo = np.tile(np.array([[0], [255]], np.uint8)[:, :, None], (4, 8, 3))
    for seed in range(50):
        found, _ = augmented(
            Sample(photo, np.zeros((8, 8), np.int16), []), np.random.default_rng(seed), 8, 8, (1, 1), jitter=3.0
        )
        rows = found.reshape(8, -1).astype(int)
        assert (rows[1] - rows[0] >= 0).all() or (rows[1] - rows[0] <= 0).all()


def test_narrow_photos_keep_a_pixel():
    whole = Sample(np.zeros((1, 500, 3), np.uint8), np.ones((1, 500), np.int16), [])
    for shape in ((1, 500), (500, 1)):
        whole = Sample(np.zeros((*shape, 3), np.uint8), np.ones(shape, np.int16), [])
        _, truth = augmented(whole, np.random.default_rng(8), 32, 32)
        assert (truth == 1).any()


@pytest.mark.parametrize("shape, long_side, step, expected", [
    ((480, 640), 480, 32, (352, 480)),  # 360 = 11.25 · 32
    ((640, 480), 480, 32, (480, 352)),
    ((300, 400), 64, 32, (64, 64)),  # 48 = 1.5 · 32: halves go up
    ((10, 1000), 64, 32, (32, 64)),
    ((20, 20), 5, 32, (32, 32)),
    ((100, 100), 100, 64, (128, 128)),
])  # fmt: skip
def test_fitted(shape, long_side, step, expected):
    photo = np.random.default_rng(9).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = fitted(photo, long_side, step)
    assert found.shape == (*expected, 3) and found.dtype == np.uint8
    assert (found == np.asarray(Image.fromarray(photo).resize(expected[::-1], Image.Resampling.BILINEAR))).all()
