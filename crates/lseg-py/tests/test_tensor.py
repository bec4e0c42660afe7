"""Results that other libraries take without a copy, and when their memory goes."""

import ctypes
import gc
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import resident_kib
from small_network import make_engine
from dlpack_capsule import api, take

import lseg_fast

MIB = 1024

def test_what_it_is(engine, image):
    tensor = engine.embed(image)
    assert tensor.shape == (64, 16, 16) and tensor.dtype == "float16" and tensor.device == "cpu" and len(tensor) == 64
    assert repr(tensor) == "Tensor([64, 16, 16], float16, cpu)"
    assert tensor.__dlpack_device__() == (1, 0)
    with pytest.raises(AttributeError):
        tensor.__cuda_array_interface__


def test_numpy_shares_the_memory(engine, image):
    tensor = engine.embed(image)
    address = tensor.__array_interface__["data"][0]
    views = [tensor.numpy(), np.asarray(tensor), np.from_dlpack(tensor), tensor.__array__()]
    for view in views[:3]:
        assert view.ctypes.data == address and view.shape == tensor.shape and view.dtype == np.float16
        assert view.flags.c_contiguous
    assert tensor.numpy().flags.writeable and tensor.__array_interface__["data"][1] is False
    tensor.numpy()[0, 0, 0] = 42
    assert views[2][0, 0, 0] == 42
    assert np.asarray(tensor, dtype=np.float32).dtype == np.float32
    copy = np.array(tensor)
    assert copy.ctypes.data != address and np.array_equal(copy, views[0])


@pytest.mark.parametrize("asked, name", [({}, b"dltensor"), ({"max_version": (0, 8)}, b"dltensor"), ({"max_version": (1, 0)}, b"dltensor_versioned"), ({"max_version": (1, 9), "stream": None}, b"dltensor_versioned")])
def test_capsules(engine, image, asked, name):
    tensor = engine.embed(image, dtype="float32", layout="hwc")
    capsule = tensor.__dlpack__(**asked)
    assert api.PyCapsule_IsValid(capsule, name)
    managed, address = take(capsule)
    told = managed.tensor
    assert told.data == tensor.__array_interface__["data"][0] and told.byte_offset == 0
    assert (told.device_type, told.device_id) == (1, 0) and (told.code, told.bits, told.lanes) == (2, 32, 1)
    assert told.shape[: told.ndim] == [16, 16, 64] and told.strides[: told.ndim] == [1024, 64, 1]
    if name == b"dltensor_versioned":
        assert (managed.major, managed.flags) == (1, 0)
    expected = tensor.numpy().copy()
    del capsule, tensor
    gc.collect()
    values = np.ctypeslib.as_array(ctypes.cast(told.data, ctypes.POINTER(ctypes.c_float)), (16, 16, 64)).copy()
    assert np.array_equal(values, expected), "the tensor's memory is the consumer's now"
    # On a thread that Python does not know of: ctypes lets go of the lock before it calls.
    thread = threading.Thread(target=managed.deleter, args=(address,))
    thread.start()
    thread.join()


def test_copies_and_other_devices(engine, image):
    tensor = engine.embed(image)
    capsule = tensor.__dlpack__(copy=True, max_version=(1, 0))
    managed, address = take(capsule)
    assert managed.flags == 2 and managed.tensor.data != tensor.__array_interface__["data"][0]
    copied = np.ctypeslib.as_array(ctypes.cast(managed.tensor.data, ctypes.POINTER(ctypes.c_uint16)), tensor.shape)
    assert np.array_equal(copied.view(np.float16), tensor.numpy())
    managed.deleter(address)
    assert api.PyCapsule_IsValid(tensor.__dlpack__(dl_device=(1, 0), copy=False), b"dltensor")
    for device in ((2, 0), (10, 0)):
        with pytest.raises(BufferError, match="the tensor is on"):
            tensor.__dlpack__(dl_device=device)


def test_it_outlives_the_engine(image):
    engine = make_engine()
    mask, tensor = engine.segment(image), engine.embed(image)
    capsule = tensor.__dlpack__()
    expected = mask.copy(), tensor.numpy().copy()
    del engine
    gc.collect()
    assert np.array_equal(mask, expected[0])
    view = np.from_dlpack(Given(capsule))
    del tensor, capsule
    gc.collect()
    assert np.array_equal(view, expected[1])


class Given:
    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **_):
        return self.capsule


def test_released(engine, image):
    tensor = engine.embed(image)
    view, shared = tensor.numpy(), np.from_dlpack(tensor)
    expected = view.copy()
    tensor.release()
    tensor.release()
    for use in (tensor.numpy, tensor.__dlpack__, lambda: tensor.device, lambda: tensor.__array_interface__):
        with pytest.raises(lseg_fast.Error, match="released"):
            use()
    assert "released" in repr(tensor) and tensor.shape == (64, 16, 16)
    del tensor
    for _ in range(50):
        engine.embed(image)
    assert np.array_equal(view, expected) and np.array_equal(shared, expected), "whoever has it keeps it"


def test_release_gives_memory_back(engine):
    planes = np.zeros((3, 32, 32), np.float32)
    engine.embed(planes, at="full", dtype="float32")
    held, before = [], resident_kib()
    for _ in range(400):
        tensor = engine.embed(planes, at="full", dtype="float32")
        tensor.release()
        held.append(tensor)
    assert resident_kib() - before < 20 * MIB, "100 MiB were made"


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda tensor: tensor.__dlpack__(), id="old capsule, unused"),
        pytest.param(lambda tensor: tensor.__dlpack__(max_version=(1, 0)), id="versioned capsule, unused"),
        pytest.param(lambda tensor: np.from_dlpack(tensor), id="taken by NumPy"),
        pytest.param(lambda tensor: tensor.numpy(), id="viewed"),
        pytest.param(lambda tensor: tensor.__dlpack__(copy=True), id="copied"),
    ],
)
def test_ten_thousand_tensors_leave_nothing(engine, use):
    frame = np.zeros((32, 32, 3), np.uint8)
    # Each holds 256 KiB; a leak of one in ten would be 250 MiB.
    def some(count):
        for _ in range(count):
            use(engine.embed(frame, at="full", dtype="float32", layout="hwc"))

    some(200)
    gc.collect()
    before = resident_kib()
    some(2000)
    gc.collect()
    assert resident_kib() - before < 10 * MIB


def test_ten_thousand_masks_and_inputs_leave_nothing(engine):
    frame = np.zeros((32, 32, 3), np.uint8)
    producer = Given(None)

    def some(count):
        for turn in range(count):
            producer.capsule = frame.__dlpack__() if turn % 2 else frame.__dlpack__(max_version=(1, 0))
            engine.segment(producer)
            engine.segment(frame[::-1], outputs=("mask", "scores"))

    some(200)
    gc.collect()
    references, before = sys.getrefcount(frame), resident_kib()
    some(5000)
    gc.collect()
    assert sys.getrefcount(frame) == references, "every image that was lent is given back"
    assert resident_kib() - before < 10 * MIB


def test_capsules_alive_at_exit_do_no_harm():
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from small_network import make_engine
import numpy as np
engine = make_engine()
tensor = engine.embed(np.zeros((32, 32, 3), np.uint8))
kept = [tensor.__dlpack__(), np.from_dlpack(tensor), tensor.numpy(), engine]
kept.append(kept)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stderr
