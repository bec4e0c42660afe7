"""VLMaps' function. (RayFronts' class is of PyTorch: test_torch.py.)"""

import numpy as np
import pytest
from small_network import make_engine

import lseg_fast
from lseg_fast.adapters import RayFrontsEncoder, get_lseg_feat


def test_vlmaps(image):
    engine = make_engine()
    # As vlmaps_builder calls it, but for the small size.
    embeddings = get_lseg_feat(engine, image, ["example"], None, "cpu", 60, 65, [0.5] * 3, [0.5] * 3)
    assert embeddings.dtype == np.float32 and embeddings.shape == (1, 64, 50, 65)
    assert engine.size == "32x32", "the engine's own size is back"
    upright = get_lseg_feat(engine, np.ascontiguousarray(image.transpose(1, 0, 2)), base_size=65)
    assert upright.shape == (1, 64, 65, 50)
    # The size that it has: nothing is resized on the way.
    engine.size = "native"
    own = engine.embed(image, at="photo", dtype="float32").numpy()
    assert np.allclose(get_lseg_feat(engine, image, base_size=60)[0], own, atol=2e-3 * np.abs(own).max())


def test_vlmaps_of_other_weights(image):
    engine = make_engine()
    for keywords in ({"norm_mean": [0.485, 0.456, 0.406]}, {"vis": True}):
        with pytest.raises(lseg_fast.InputError, match="0.5"):
            get_lseg_feat(engine, image, **keywords)
    for wrong in (image[..., 0], image.astype(np.float32)):
        with pytest.raises(lseg_fast.InputError, match=r"uint8 \[H, W, 3\]"):
            get_lseg_feat(engine, wrong)


def test_a_resize_keeps_the_corners_and_straight_lines():
    from lseg_fast.adapters import _resized

    ramp = np.broadcast_to(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], (7, 20, 3))
    wide = _resized(ramp, 13, 39)
    assert np.allclose(wide[0, :, 0], np.linspace(0, 190, 39)) and np.allclose(wide, wide[:1])
    assert np.array_equal(_resized(ramp, 7, 20), ramp.astype(np.float32))


def test_sizes_are_the_networks():
    encoder = RayFrontsEncoder(make_engine())
    engine = encoder.engine
    for height, width in [(32, 32), (47, 48), (79, 80), (1, 100), (480, 640), (224, 225)]:
        engine.set_labels(["a"])
        engine.segment(np.zeros((height, width, 3), np.uint8)) if height * width < 10000 else None
        nearest = encoder.get_nearest_size(height, width)
        if height * width < 10000:
            assert engine.stats()["network_size"] == nearest
        assert encoder.is_compatible_size(height, width) == (nearest == (height, width))
        assert encoder.is_compatible_size(*nearest)
