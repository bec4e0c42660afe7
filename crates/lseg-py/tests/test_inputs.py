"""Every way in which an image may come."""

import array
import ctypes
import mmap

import dlpack_capsule
import numpy as np
import pytest

import lseg_fast


def grey(image):
    return np.ascontiguousarray(image[..., 1])


def yuyv(image):
    height, width = image.shape[:2]
    packed = np.empty((height, width, 2), np.uint8)
    packed[..., 0] = image[..., 0]
    packed[..., 1] = np.where(np.arange(width) % 2 == 0, 100, 170)
    return packed


def nv12(image):
    height, width = image.shape[:2]
    return np.concatenate([image[..., 0], np.full((height // 2, width), 130, np.uint8)])


def test_channels_in_any_order(engine, image):
    mask = engine.segment(image)
    assert len(np.unique(mask)) > 1, "an image whose mask is one label tests nothing"
    with_alpha = np.concatenate([image, np.full((*image.shape[:2], 1), 77, np.uint8)], axis=2)
    for array_, format_ in [
        (image, "rgb8"),
        (image[..., ::-1], "bgr8"),
        (np.ascontiguousarray(image[..., ::-1]), "bgr8"),
        (with_alpha, None),
        (with_alpha, "rgba8"),
        (with_alpha[..., [2, 1, 0, 3]], "bgra8"),
        (image.transpose(2, 0, 1), None),
        (np.ascontiguousarray(image.transpose(2, 0, 1)), None),
        (np.ascontiguousarray(image.transpose(2, 0, 1)), "rgb8"),
    ]:
        assert np.array_equal(engine.segment(array_, format=format_), mask), format_
    assert not np.array_equal(engine.segment(image, format="bgr8", outputs="best"), engine.segment(image, outputs="best"))


def test_grey(engine, image):
    luma = grey(image)
    best = engine.segment(np.stack([luma] * 3, axis=2), outputs="best")
    for array_, format_ in [(luma, None), (luma, "mono8"), (luma[..., None], None), (luma[None], "mono8")]:
        assert np.array_equal(engine.segment(array_, format=format_, outputs="best"), best)
    batch = engine.segment(np.stack([luma, luma]), format="mono8", outputs="best")
    assert len(batch) == 2 and np.array_equal(batch[1], best)


def test_floating_point_planes(engine, image):
    best = engine.segment(image, outputs="best")
    planes = np.ascontiguousarray(image.transpose(2, 0, 1).astype(np.float32) / 255)
    assert np.allclose(engine.segment(planes, outputs="best"), best, atol=1e-3)
    assert np.allclose(engine.segment(planes.astype(np.float16), outputs="best"), best, atol=0.1)
    with pytest.raises(lseg_fast.InputError, match=r"float32 \[3, H, W\]"):
        engine.segment(planes.transpose(1, 2, 0), format="rgb_f32")
    with pytest.raises(lseg_fast.InputError, match=r"float32: expected uint8 \[H, W, 3\]"):
        engine.segment(planes, format="rgb8")


def test_luma_and_chroma(engine, image):
    height, width = image.shape[:2]
    for array_, format_ in [(nv12(image), "nv12"), (yuyv(image), "yuyv")]:
        mask = engine.segment(array_, format=format_)
        assert mask.shape == (height, width)
        best = engine.segment(array_, format=format_, outputs="best")
        other = engine.segment(array_, format=format_ + ":bt709:full", outputs="best")
        assert not np.array_equal(best, other)
        both = engine.segment(np.stack([array_, array_]), format=format_, outputs="best")
        assert np.array_equal(both[1], best)
    flat = yuyv(image).reshape(height, 2 * width)
    assert np.array_equal(engine.segment(flat, format="yuyv"), engine.segment(yuyv(image), format="yuyv"))


@pytest.mark.parametrize("make, format_", [(lambda i: i, "rgb8"), (grey, "mono8"), (nv12, "nv12"), (yuyv, "yuyv")])
def test_row_padding_is_passed_over(engine, image, make, format_):
    tight = make(image)
    padded = np.full((tight.shape[0], tight.shape[1] + 9, *tight.shape[2:]), 255, np.uint8)
    view = padded[:, : tight.shape[1]]
    view[:] = tight
    best = engine.segment(tight, format=format_, outputs="best")
    assert np.array_equal(engine.segment(view, format=format_, outputs="best"), best)


def test_padded_floating_point_planes(engine, image):
    planes = np.ascontiguousarray(image.transpose(2, 0, 1).astype(np.float32) / 255)
    padded = np.full((4, planes.shape[1] + 2, planes.shape[2] + 5), np.nan, np.float32)
    view = padded[3:0:-1, 1:-1, 2:-3]
    view[:] = planes
    assert np.array_equal(engine.segment(view, outputs="best"), engine.segment(planes, outputs="best"))


@pytest.mark.parametrize("step", [np.s_[::-1], np.s_[:, ::-1], np.s_[::-1, ::-1], np.s_[::2, ::2], np.s_[:, :, ::-1], np.s_[3:-5, 7:20]])
def test_strides_of_any_sign(engine, image, step):
    view = image[step]
    assert np.array_equal(engine.segment(view, outputs="best"), engine.segment(view.copy(), outputs="best"))


def test_an_axis_that_is_repeated(engine):
    row = np.arange(60, dtype=np.uint8)[None, :, None]
    view = np.broadcast_to(row, (20, 60, 3))
    assert np.array_equal(engine.segment(view, outputs="best"), engine.segment(view.copy(), outputs="best"))
    huge = np.broadcast_to(np.uint8(3), (1 << 20, 1 << 20, 3))
    with pytest.raises(lseg_fast.OutOfMemoryError):
        engine.segment(huge)


def test_buffers_and_interfaces(engine, image):
    mask = engine.segment(image)
    raw = image.tobytes()
    shared = mmap.mmap(-1, len(raw))
    shared[:] = raw
    for buffer in (raw, bytearray(raw), shared, array.array("B", raw), (ctypes.c_uint8 * len(raw)).from_buffer_copy(raw)):
        assert np.array_equal(engine.segment(memoryview(buffer).cast("B").cast("B", image.shape)), mask)
    readonly = image.copy()
    readonly.flags.writeable = False
    assert np.array_equal(engine.segment(readonly), mask)

    class Interface:
        __array_interface__ = image.__array_interface__

    assert np.array_equal(engine.segment(Interface()), mask)
    with pytest.raises(lseg_fast.InputError, match=r"shape \[8280\]"):
        engine.segment(raw)


class Producer:
    """Of DLPack, as libraries write it; without NumPy's own interfaces."""

    def __init__(self, array_, versions=True, device=None):
        self.array, self.versions, self.device, self.asked = array_, versions, device, []

    def __dlpack_device__(self):
        return self.device or self.array.__dlpack_device__()

    def __dlpack__(self, **keywords):
        self.asked.append(keywords)
        if not self.versions and "max_version" in keywords:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        return self.array.__dlpack__(**keywords)


def test_dlpack_old_and_versioned(engine, image):
    mask = engine.segment(image)
    for versions in (True, False):
        producer = Producer(image, versions)
        assert np.array_equal(engine.segment(producer), mask)
        assert "max_version" in producer.asked[0] and ("max_version" in producer.asked[-1]) == versions
        assert all("stream" not in asked for asked in producer.asked), "there is none on the host"
    readonly = image.copy()
    readonly.flags.writeable = False
    assert np.array_equal(engine.segment(Producer(readonly)), mask)
    assert np.array_equal(engine.segment(Producer(image[::-1, ::2])), engine.segment(image[::-1, ::2]))
    planes = (image.transpose(2, 0, 1) / 255).astype(np.float16)
    assert np.array_equal(engine.segment(Producer(planes), outputs="best"), engine.segment(planes, outputs="best"))


@pytest.mark.parametrize("versioned", [False, True])
def test_a_producer_that_nobody_else_wrote(engine, image, versioned):
    mask = engine.segment(image)
    memory = np.concatenate([np.zeros(16, np.uint8), image.ravel()])
    lent = len(dlpack_capsule.lent)
    for address, offset in [(memory.ctypes.data, 16), (memory.ctypes.data + 16, 0)]:
        for strides in (None, (180, 3, 1)):
            capsule = dlpack_capsule.capsule(address, image.shape, strides, (1, 0), versioned, offset=offset)
            assert np.array_equal(engine.segment(Given(capsule)), mask)
            assert len(dlpack_capsule.lent) == lent, "the deleter is called once, when the frame is done"
            with pytest.raises(ValueError):
                engine.segment(Given(capsule))
    upside_down = dlpack_capsule.capsule(memory.ctypes.data + 16 + 45 * 180, image.shape, (-180, 3, 1), (1, 0), versioned)
    assert np.array_equal(engine.segment(Given(upside_down)), engine.segment(image[::-1]))
    for keywords in ({"element": (2, 64)}, {"element": (4, 16)}, {"device": (7, 0)}):
        told = {"device": (1, 0), "versioned": versioned, **keywords}
        with pytest.raises(lseg_fast.InputError, match="a DLPack tensor of"):
            engine.segment(Given(dlpack_capsule.capsule(memory.ctypes.data, image.shape, None, **told)))
    for shape, strides in [((-1, 60, 3), None), ((46, 60, 3), (1 << 62, 3, 1)), ((1 << 40, 1 << 40, 3), None)]:
        with pytest.raises(lseg_fast.InputError):
            engine.segment(Given(dlpack_capsule.capsule(memory.ctypes.data, shape, strides, (1, 0), versioned)))
    assert len(dlpack_capsule.lent) == lent


def test_a_protocol_that_came_later(engine, image):
    capsule = dlpack_capsule.capsule(image.ctypes.data, image.shape, None, (1, 0), True, major=2)
    with pytest.raises(BufferError, match="version 2: expected version 1"):
        engine.segment(Given(capsule))


def test_dlpack_of_what_is_not_taken(engine, image):
    for producer, what in [
        (Producer(image.astype(np.int64)), "type code 0, 64 bits"),
        (Producer(image.astype(np.uint16)), "uint16|16 bits"),
        (Producer(image, device=(2, 0)), "GPU|CUDA"),
    ]:
        with pytest.raises(lseg_fast.InputError, match=what):
            engine.segment(producer)


def test_our_own_tensors_come_back_in(engine, image):
    planes = np.random.default_rng(1).random((3, 40, 40), np.float32)
    tensor = engine.embed(image)
    with pytest.raises(lseg_fast.InputError, match=r"shape \[64, 16, 16\] and float16"):
        engine.segment(tensor)
    assert engine.segment(Producer(planes)).shape == (40, 40)


@pytest.mark.parametrize(
    "shape, dtype, format_, what",
    [
        ((5,), np.uint8, None, r"shape \[5\] and uint8: expected uint8 \[H, W, 3\] or \[3, H, W\]"),
        ((2, 3, 4, 5, 3), np.uint8, None, "one more axis in front"),
        ((8, 8, 2), np.uint8, None, "format= says what it is"),
        ((8, 8, 3), np.uint8, "rgba8", r"expected uint8 \[H, W, 4\]"),
        ((8, 8, 3), np.uint8, "nv12", r"\[H·3/2, W\] of even H and W"),
        ((8, 8), np.uint8, "nv12", r"\[H·3/2, W\]"),
        ((9, 7), np.uint8, "nv12", r"\[H·3/2, W\]"),
        ((8, 7, 2), np.uint8, "yuyv", "even W"),
        ((8, 6), np.uint8, "yuyv", "even W"),
        ((0, 8, 3), np.uint8, None, "no pixels"),
        ((8, 8, 3), np.int32, None, "type 'i', 32 bits"),
        ((8, 8, 3), np.float64, None, "64 bits: expected uint8, float16 or float32"),
        ((8, 8, 3), np.bool_, None, "type 'b'"),
        ((8, 8, 3), ">f4", None, "another order of bytes"),
        ((8, 8, 3), np.float32, None, r"float32: expected"),
        ((8, 8, 3), np.uint8, "rgb9", "rgb9"),
        ((8, 8, 3), np.uint8, "rgb8:bt709", "rgb8:bt709"),
    ],
)
def test_what_is_no_image_is_told_with_shape_and_type(engine, shape, dtype, format_, what):
    with pytest.raises(lseg_fast.InputError, match=what):
        engine.segment(np.zeros(shape, dtype), format=format_)


def test_what_is_no_array(engine, image):
    for thing in ("photo.jpg", 7, None, {"a": image}, object()):
        with pytest.raises(lseg_fast.InputError, match="expected an array"):
            engine.segment(thing)
    with pytest.raises(lseg_fast.InputError, match="no frames"):
        engine.segment([])
    with pytest.raises(lseg_fast.InputError, match="one image each"):
        engine.segment([np.stack([image, image])])
    with pytest.raises(lseg_fast.InputError, match="expected an array"):
        engine.segment([image, "photo.jpg"])


def test_a_producer_that_fails_is_heard(engine):
    class Broken:
        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **_):
            raise RuntimeError("no memory today")

    with pytest.raises(RuntimeError, match="no memory today"):
        engine.segment(Broken())

    class Wrong(Broken):
        def __dlpack__(self, **_):
            return "a capsule"

    with pytest.raises(TypeError):
        engine.segment(Wrong())
    taken = np.zeros((4, 4, 3), np.uint8).__dlpack__()
    np.from_dlpack(Given(taken))
    with pytest.raises(ValueError):
        engine.segment(Given(taken))


class Given:
    """A capsule that is there."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **_):
        return self.capsule
