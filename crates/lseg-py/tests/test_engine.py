"""Words and images in, arrays out."""

from pathlib import Path

import numpy as np
import pytest
from small_network import LABELS, NETWORK, make_engine

import lseg_fast


def test_what_it_says_of_itself(engine):
    assert engine.labels == LABELS
    assert engine.size == "32x32"
    assert engine.device.startswith("cpu") and engine.embed_dim == 64
    assert repr(engine) == f"Engine({engine.device})"
    frames = engine.stats()["frames"]
    engine.segment(np.zeros((8, 8, 3), np.uint8))
    stats = engine.stats()
    assert stats["frames"] == frames + 1 and stats["network_size"] == (32, 32)
    assert stats["host_memory_held"] > 0 and stats["device_memory_held"] is None
    assert sum(stats["stage_seconds"].values()) > 0


def test_what_the_build_is():
    info = lseg_fast.build_info()
    assert info["version"] == lseg_fast.__version__
    assert info["kernels"] or info["archs"] == []


def test_a_mask_is_an_array_of_its_own(engine, image):
    mask = engine.segment(image)
    assert mask.dtype == np.uint16 and mask.shape == image.shape[:2] and mask.max() < len(LABELS)
    assert mask.flags.c_contiguous and mask.flags.writeable
    kept = mask.copy()
    mask[:] = 7
    assert np.array_equal(engine.segment(image), kept) and (mask == 7).all()


def test_several_outputs_are_of_one_pass(engine, image):
    names = ("mask", "mask8", "confidence", "best", "scores", "probabilities", "overlay")
    result = engine.segment(image, outputs=names)
    height, width = image.shape[:2]
    expected = {
        "mask": (np.uint16, (height, width)),
        "mask8": (np.uint8, (height, width)),
        "confidence": (np.uint8, (height, width)),
        "best": (np.float32, (height, width)),
        "scores": (np.float32, (3, 32, 32)),
        "probabilities": (np.float32, (3, 32, 32)),
        "overlay": (np.uint8, (height, width, 3)),
    }
    for name, (dtype, shape) in expected.items():
        array = getattr(result, name)
        assert (array.dtype, array.shape) == (dtype, shape), name
        alone = engine.segment(image, outputs=name)
        assert np.array_equal(alone, array), name
    assert result.labels == LABELS
    assert np.array_equal(result.mask, result.mask8)
    assert np.allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)
    part = engine.segment(image, outputs=["mask", "best"])
    assert part.scores is None and "mask, best" in repr(part)


def test_below_the_threshold_a_pixel_has_no_label(engine, image):
    sure = engine.segment(image, outputs="confidence")
    threshold = float(np.median(sure)) / 255
    mask, mask8 = (engine.segment(image, outputs=name, threshold=threshold) for name in ("mask", "mask8"))
    assert np.array_equal(mask == 65535, mask8 == 255)
    assert (mask == 65535).any() and (mask != 65535).any()
    assert (sure[mask == 65535] <= threshold * 255 + 0.5).all() and (sure[mask != 65535] >= threshold * 255 - 0.5).all()


def test_a_list_and_a_batch_give_lists(engine, image):
    other = image[::-1].copy()
    one, two = engine.segment(image), engine.segment(other)
    for images in ([image, other], (image, other), np.stack([image, other])):
        masks = engine.segment(images)
        assert isinstance(masks, list) and len(masks) == 2
        assert np.array_equal(masks[0], one) and np.array_equal(masks[1], two)
    results = engine.segment([image, other], outputs=("mask", "best"))
    assert np.array_equal(results[1].mask, two) and not np.array_equal(results[0].best, results[1].best)
    assert [len(engine.segment(images)) for images in ([image], image[None])] == [1, 1]
    with pytest.raises(lseg_fast.InputError, match="differ|same size|size"):
        engine.segment([image, image[:20]])


def test_out_is_filled_in_place(engine, image):
    mask = engine.segment(image)
    out = np.full(mask.shape, 9, np.uint16)
    address = out.ctypes.data
    assert engine.segment(image, out=out) is out
    assert out.ctypes.data == address and np.array_equal(out, mask)
    best = np.empty(mask.shape, np.float32)
    engine.segment(image, outputs="best", out=best)
    assert np.array_equal(best, engine.segment(image, outputs="best"))
    both = np.empty((2, *mask.shape), np.uint16)
    assert engine.segment([image, image[::-1]], out=both) is both
    assert np.array_equal(both[0], mask) and np.array_equal(both[1], engine.segment(image[::-1]))
    parts = [np.empty(mask.shape, np.uint16) for _ in range(2)]
    assert engine.segment([image, image[::-1]], out=parts) is parts
    assert np.array_equal(np.stack(parts), both)
    one = np.empty((1, *mask.shape), np.uint16)
    engine.segment(image[None], out=one)
    assert np.array_equal(one[0], mask)
    embedding = engine.embed(image, dtype="float32")
    room = np.empty(embedding.shape, np.float32)
    assert engine.embed(image, dtype="float32", out=room) is room
    assert np.array_equal(room, embedding.numpy())


def test_out_of_another_kind_is_refused(engine, image):
    height, width = image.shape[:2]
    readonly = np.empty((height, width), np.uint16)
    readonly.flags.writeable = False
    for out, what in [
        (np.empty((height, width), np.uint8), "out is uint8"),
        (np.empty((width, height), np.uint16), "expected uint16"),
        (np.empty((height, 2 * width), np.uint16)[:, ::2], "not contiguous"),
        (readonly, "read-only"),
        (bytearray(2 * height * width), "no array of NumPy"),
        ([np.empty((height, width), np.uint16)] * 2, "2 arrays"),
        ([], "0 arrays"),
    ]:
        with pytest.raises(lseg_fast.InputError, match=what):
            engine.segment(image, out=out)
    with pytest.raises(lseg_fast.InputError, match="one output"):
        engine.segment(image, outputs=("mask", "best"), out=np.empty((height, width), np.uint16))


def test_embeddings_in_every_form(engine, image):
    height, width = image.shape[:2]
    full = engine.embed(image, dtype="float32").numpy()
    assert full.shape == (64, 16, 16)
    for at, size in (("half", (16, 16)), ("full", (32, 32)), ("photo", (height, width))):
        for dtype, tolerance in (("float32", 1e-5), ("float16", 2e-3)):
            chw = engine.embed(image, at=at, dtype=dtype)
            hwc = engine.embed(image, at=at, dtype=dtype, layout="hwc")
            assert chw.shape == (64, *size) and hwc.shape == (*size, 64) and chw.dtype == dtype
            assert np.array_equal(chw.numpy().transpose(1, 2, 0), hwc.numpy())
            unit = engine.embed(image, at=at, dtype=dtype, normalize=True).numpy().astype(np.float32)
            assert np.allclose(np.linalg.norm(unit, axis=0), 1, atol=tolerance)
    assert engine.embed(image).dtype == "float16", "what most take"
    assert np.allclose(engine.embed(image).numpy(), full, rtol=1e-3, atol=1e-3)
    several = engine.embed([image, image[::-1]], dtype="float32")
    assert np.array_equal(several[0].numpy(), full) and len(several) == 2


def test_embeddings_at_points_are_those_of_the_map(engine, image):
    corners = [(0, 0), (59, 45)]
    at = engine.embed_at(image, corners)
    assert at.dtype == np.float32 and at.shape == (2, 64)
    for points in (np.array(corners, np.float64), tuple(corners), np.array(corners, np.int32)):
        assert np.array_equal(engine.embed_at(image, points), at)
    assert engine.embed_at(image, []).shape == (0, 64)
    both = engine.embed_at([image, image[::-1]], corners)
    assert np.array_equal(both[0], at) and not np.array_equal(both[1], at)
    for points, what in [([(1, 2, 3)], r"\[P, 2\]"), ([(60, 0)], "outside"), ("here", r"\[P, 2\]"), ([(np.nan, 0)], "NaN")]:
        with pytest.raises(lseg_fast.InputError, match=what):
            engine.embed_at(image, points)


def test_words_are_unit_vectors(engine):
    vectors = engine.text(["dog", "a red car"])
    assert vectors.dtype == np.float32 and vectors.shape == (2, 64)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(engine.text(["dog"]), vectors[:1]) and engine.labels == LABELS
    pictured = engine.text(["dog"], templates=["a photo of a {}", "a drawing of a {}"])
    assert pictured.shape == (1, 64) and not np.array_equal(pictured, vectors[:1])


def test_labels_and_templates_change(image):
    engine = make_engine()
    before = engine.segment(image, outputs="best")
    engine.set_labels(LABELS, templates=["a photo of a {}"])
    assert not np.array_equal(engine.segment(image, outputs="best"), before)
    engine.set_labels(LABELS)
    assert np.array_equal(engine.segment(image, outputs="best"), before), "templates are of one list"
    engine.set_labels(("one", "two"))
    assert engine.labels == ["one", "two"]
    engine.set_labels("alone")
    assert engine.labels == ["alone"], "a word is a list of one, not of its letters"
    with pytest.raises(lseg_fast.InputError):
        engine.set_labels(["a", "a"])
    assert engine.labels == ["alone"]


def test_sizes(image):
    engine = make_engine()
    for size, said, network in [
        ("native", "native", (32, 64)),
        ("64x96", "64x96", (64, 96)),
        (64, "long:64", (64, 64)),
        ((96, 32), "96x32", (96, 32)),
        ("long:128", "long:128", (96, 128)),
    ]:
        engine.size = size
        assert engine.size == said
        engine.segment(image)
        assert engine.stats()["network_size"] == network
    with pytest.raises(lseg_fast.InputError, match="HEIGHTxWIDTH"):
        engine.size = "large"
    assert engine.size == "long:128"


def test_the_demo_model_and_paths():
    assert lseg_fast.Engine(device="cpu").embed_dim == 256
    assert lseg_fast.Engine(str(NETWORK), "cpu").embed_dim == lseg_fast.Engine(Path(NETWORK), "cpu").embed_dim == 64
