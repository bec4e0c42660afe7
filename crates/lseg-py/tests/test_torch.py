"""PyTorch on the CPU: both ways without a copy, and RayFronts' encoder."""

import gc

import numpy as np
import pytest
from conftest import resident_kib
from small_network import make_engine

import lseg_fast
from lseg_fast.adapters import RayFrontsEncoder

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def test_results_are_torch_tensors_without_a_copy(engine, image):
    tensor = engine.embed(image)
    address = tensor.__array_interface__["data"][0]
    for taken in (torch.from_dlpack(tensor), torch.from_dlpack(tensor.__dlpack__()), torch.as_tensor(tensor.numpy())):
        assert taken.data_ptr() == address and taken.dtype == torch.float16 and tuple(taken.shape) == tensor.shape
    assert torch.utils.dlpack.from_dlpack(tensor.__dlpack__(max_version=(1, 0))).data_ptr() == address
    copied = torch.from_dlpack(tensor, copy=True) if "copy" in torch.from_dlpack.__code__.co_varnames else None
    assert copied is None or copied.data_ptr() != address
    mask = torch.from_numpy(engine.segment(image, outputs="mask8"))
    assert mask.dtype == torch.uint8
    taken[0, 0, 0] = 3
    assert tensor.numpy()[0, 0, 0] == 3


def test_torch_tensors_are_read_where_they_lie(engine, image):
    mask = engine.segment(image, outputs="best")
    hwc = torch.from_numpy(image)
    chw = hwc.permute(2, 0, 1)
    assert np.array_equal(engine.segment(hwc, outputs="best"), mask)
    assert np.array_equal(engine.segment(chw, outputs="best"), mask)
    assert np.array_equal(engine.segment(chw.contiguous(), outputs="best"), mask)
    floats = chw.contiguous().float() / 255
    expected = engine.segment(floats.numpy(), outputs="best")
    assert np.array_equal(engine.segment(floats, outputs="best"), expected)
    batch = engine.segment(torch.stack([floats, floats.flip(1)]), outputs="best")
    assert np.array_equal(batch[0], expected) and not np.array_equal(batch[1], expected)
    seen = []
    address = hwc.data_ptr()
    original = type(hwc).__dlpack__

    class Watched:
        def __dlpack_device__(self):
            return hwc.__dlpack_device__()

        def __dlpack__(self, **keywords):
            seen.append(keywords)
            return original(hwc, **keywords)

    engine.segment(Watched())
    assert seen and hwc.data_ptr() == address


def test_a_change_in_place_is_seen(engine, image):
    """No copy is kept: the memory that is read is PyTorch's."""
    hwc = torch.from_numpy(image.copy())
    before = engine.segment(hwc, outputs="best")
    hwc.copy_(255 - hwc)
    assert not np.array_equal(engine.segment(hwc, outputs="best"), before)


def test_what_torch_has_and_we_do_not(engine):
    for tensor in (torch.zeros(4, 4, 3, dtype=torch.int64), torch.zeros(3, 4, 4, dtype=torch.bfloat16)):
        with pytest.raises(lseg_fast.InputError, match="expected uint8, float16 or float32"):
            engine.segment(tensor)
    with pytest.raises(BufferError):
        engine.segment(torch.zeros(3, 4, 4, requires_grad=True))


def test_memory_is_freed_by_whoever_has_it_last(engine):
    frame = np.zeros((32, 32, 3), np.uint8)

    def some(count):
        for _ in range(count):
            torch.from_dlpack(engine.embed(frame, at="full", dtype="float32"))
            engine.segment(torch.zeros(32, 32, 3, dtype=torch.uint8))

    some(200)
    gc.collect()
    before = resident_kib()
    some(1000)
    gc.collect()
    assert resident_kib() - before < 20 * 1024, "250 MiB were made"
    engine_of_its_own = make_engine()
    kept = torch.from_dlpack(engine_of_its_own.embed(frame))
    expected = kept.clone()
    del engine_of_its_own
    gc.collect()
    assert torch.equal(kept, expected)


def test_rayfronts(engine, image):
    encoder = RayFrontsEncoder(make_engine(), templates=["a photo of a {}", "a {}"])
    rgb = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    height, width = encoder.get_nearest_size(*image.shape[:2])
    assert not encoder.is_compatible_size(*image.shape[:2]) and encoder.is_compatible_size(height, width)
    batch = torch.nn.functional.interpolate(torch.cat([rgb, rgb.flip(2)]), size=(height, width))
    features = encoder.encode_image_to_feat_map(batch)
    assert features.shape == (2, 64, height // 2, width // 2) and features.dtype == torch.float32
    assert str(features.device) == encoder.device == "cpu"
    aligned = encoder.align_spatial_features_with_language(features)
    labels, prompts = encoder.encode_labels(["dog", "sky"]), encoder.encode_prompts(["dog", "sky"])
    assert labels.shape == prompts.shape == (2, 64) and not torch.equal(labels, prompts)
    assert torch.allclose(labels.norm(dim=1), torch.ones(2), atol=1e-5)
    # The labels that win by these vectors are those of the engine itself, at the map's size.
    similarity = torch.einsum("bchw,tc->bthw", torch.nn.functional.normalize(aligned, dim=1), prompts)
    assert similarity.abs().max() <= 1.001
    halves = RayFrontsEncoder(encoder.engine, dtype="float16")
    assert halves.encode_image_to_feat_map(batch).dtype == halves.encode_prompts(["a"]).dtype == torch.float16
