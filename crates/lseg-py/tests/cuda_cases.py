"""The cases of test_cuda.py: `python cuda_cases.py CASE`. 3: a result differs from the host's."""

import gc
import sys
import weakref

import cuda_driver
import numpy as np
from cuda_driver import Context, DeviceArray, read
from small_network import make_engine

import lseg_fast

DIFFERS = 3


def an_image(seed=0):
    rows, columns = np.mgrid[0:46, 0:60]
    channels = [4 * columns + seed, 5 * rows, 255 - 2 * (rows + columns)]
    return np.stack(channels, axis=2).astype(np.uint8)


def setting():
    engine = make_engine(device="cuda")
    assert engine.device.startswith("cuda"), engine.device
    return engine, Context()


def same(found, expected):
    if not np.array_equal(found, expected):
        print("differs", file=sys.stderr)
        sys.exit(DIFFERS)


class Lent:
    """A producer of DLPack that orders its stream before the consumer's, as PyTorch does."""

    def __init__(self, array, asked, old=False):
        self.array, self.asked, self.old = array, asked, old

    def __dlpack_device__(self):
        return (cuda_driver.CUDA, 0)

    def __dlpack__(self, *, stream, max_version=None):
        self.asked.append(stream)
        event = cuda_driver.ctypes.c_void_p()
        cuda_driver.call("cuEventCreate", cuda_driver.ctypes.byref(event), 2)
        cuda_driver.call("cuEventRecord", event, cuda_driver.ctypes.c_void_p(self.array.stream))
        cuda_driver.call("cuStreamWaitEvent", cuda_driver.ctypes.c_void_p(stream), event, 0)
        from dlpack_capsule import capsule

        told = self.array.__cuda_array_interface__
        versioned = max_version is not None and not self.old
        return capsule(told["data"][0], told["shape"], told["strides"], (cuda_driver.CUDA, 0), versioned)


def order():
    """Written late on a stream of the caller's, read behind ours."""
    engine, context = setting()
    theirs, reader = context.stream(), context.stream()
    for turn in range(4):
        image = an_image(9 * turn)
        expected = engine.segment(image)
        asked = []
        array = DeviceArray(image, pad=20 * turn, stream=theirs).write()
        given = Lent(array, asked, old=turn == 1) if turn % 2 else array
        same(engine.segment(given), expected)
        again = DeviceArray(image, pad=4, stream=theirs).write()
        tensor = engine.segment(again, on_device=True)
        # The caller's stream may write there again at once: it waits until the engine has read.
        again.host[:] = 0
        again.write()
        managed = take(tensor, reader)
        same(read(managed.data, tensor.shape, tensor.dtype, reader), expected)
        assert asked == ([engine_stream(asked)] if turn % 2 else [])


def engine_stream(asked):
    [stream] = asked
    assert stream > 2, "a stream of the engine's own"
    return stream


def take(tensor, stream):
    """A consumer's part, whose capsule frees itself."""
    from dlpack_capsule import managed_tensor

    capsule = tensor.__dlpack__(stream=stream, max_version=(1, 0))
    told = managed_tensor(capsule)
    assert (told.device_type, told.device_id) == (cuda_driver.CUDA, 0)
    told.capsule = capsule
    return told


def stream():
    """Answers on the GPU, and on the host; images there are for `segment`."""
    engine, _ = setting()
    outputs = ("mask", "confidence")
    expected = [engine.segment(an_image(9 * turn), outputs=outputs) for turn in range(6)]
    for on_device in (False, True):
        kept = []
        with engine.stream(policy="every", outputs=outputs, on_device=on_device, pool=2) as frames:
            for turn, right in enumerate(expected):
                assert frames.push(an_image(9 * turn), turn) == turn
                answer = frames.recv(300)
                assert answer.labels == engine.labels
                assert isinstance(answer.mask, lseg_fast.Tensor) == on_device
                same(np.asarray(answer.mask), right.mask)
                same(np.asarray(answer.confidence), right.confidence)
                kept = [answer.mask]
            try:
                frames.push(DeviceArray(an_image()).write())
                raise AssertionError("it took an image of the GPU's")
            except lseg_fast.InputError as error:
                assert "copy it there first" in str(error)
        # A tensor outlives its answer and its stream.
        del answer, frames
        gc.collect()
        same(np.asarray(kept[0]), expected[-1].mask)


def wrong_stream_in():
    engine, context = setting()
    image = an_image()
    expected = engine.segment(image, outputs="best")
    array = DeviceArray(image, stream=context.stream()).write()
    array.stream = None
    same(engine.segment(array, outputs="best"), expected)


def wrong_stream_out():
    engine, context = setting()
    image = an_image()
    expected = engine.segment(image)
    reader = context.stream()
    tensor = engine.segment(image, on_device=True)
    managed = take(tensor, -1)
    same(read(managed.data, tensor.shape, tensor.dtype, reader), expected)


def protocols():
    """All formats in, all outputs out, and the ways to the host."""
    engine, context = setting()
    image, stream = an_image(), context.stream()
    planes = np.ascontiguousarray(image.transpose(2, 0, 1).astype(np.float32) / 255)
    nv12 = np.concatenate([image[..., 0], np.full((23, 60), 130, np.uint8)])
    for array, format_ in [(image, "bgr8"), (image[..., 0].copy(), "mono8"), (nv12, "nv12"), (planes, None)]:
        expected = engine.segment(array, format=format_, outputs="best")
        same(engine.segment(DeviceArray(array, stream=stream).write(), format=format_, outputs="best"), expected)
    on_device = DeviceArray(image, stream=stream).write()
    result = engine.segment(on_device, outputs=("mask", "confidence", "scores"), on_device=True)
    host = engine.segment(image, outputs=("mask", "confidence", "scores"))
    for name in ("mask", "confidence", "scores"):
        tensor = getattr(result, name)
        assert isinstance(tensor, lseg_fast.Tensor) and tensor.device == "cuda:0" and "cuda:0" in repr(tensor)
        same(tensor.numpy(), getattr(host, name))
        same(np.asarray(tensor), getattr(host, name))
        same(np.from_dlpack(Host(tensor)), getattr(host, name))
        told = tensor.__cuda_array_interface__
        assert told["version"] == 3 and told["shape"] == tensor.shape and told["stream"] == 1
        cuda_driver.call("cuStreamSynchronize", cuda_driver.ctypes.c_void_p(1))
        same(read(told["data"][0], told["shape"], told["typestr"], stream), getattr(host, name))
    del result, tensor
    embedding = engine.embed(on_device)
    assert embedding.device == "cuda:0", "as the image"
    same(embedding.numpy(), engine.embed(image).numpy())
    assert engine.embed(image).device == engine.embed(on_device, on_device=False).device == "cpu"
    both = engine.embed([image, image[::-1]], on_device=True)
    same(both[1].numpy(), engine.embed(image[::-1]).numpy())
    same(both[0].numpy(), engine.embed(image).numpy())
    points = [(1, 2), (30.5, 20)]
    same(engine.embed_at(on_device, points), engine.embed_at(image, points))


class Host:
    """Asks for a copy in the host's memory."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **keywords):
        return self.tensor.__dlpack__(**{**keywords, "dl_device": (1, 0)})


def places():
    """Held results are never overwritten: there is an error first."""
    engine, _ = setting()
    held, images = [], [an_image(20 * turn) for turn in range(5)]
    try:
        for image in images:
            held.append(engine.segment(image, on_device=True))
    except lseg_fast.BusyError:
        pass
    assert len(held) == 4
    for tensor, image in zip(held, images):
        same(tensor.numpy(), engine.segment(image))
    held.pop().release()
    held.append(engine.segment(images[4], on_device=True))
    same(held[3].numpy(), engine.segment(images[4]))
    same(held[0].numpy(), engine.segment(images[0]))


def lifetime():
    """Tensors outlive the engine, capsules the tensors, images their caller's names."""
    engine, context = setting()
    stream, image = context.stream(), an_image()
    expected = engine.segment(image)
    for _ in range(50):
        tensor = engine.segment(DeviceArray(image, stream=stream).write(), on_device=True)
        capsule = tensor.__dlpack__(stream=stream)
        del tensor
        gc.collect()
        del capsule
    tensor, view = engine.segment(image, on_device=True), None
    managed = take(tensor, stream)
    del engine
    gc.collect()
    same(tensor.numpy(), expected)
    shape, dtype = tensor.shape, tensor.dtype
    del tensor
    gc.collect()
    same(read(managed.data, shape, dtype, stream), expected)


def lent():
    """Images are kept while frames read them, and let go with a later frame or with the engine."""
    engine, context = setting()
    stream, image = context.stream(), an_image()
    expected, kept = engine.segment(image), []

    def segment():
        array = DeviceArray(image, stream=stream).write()
        kept.append(weakref.ref(array))
        return engine.segment(array, on_device=True)

    def alive():
        return [one() is not None for one in kept]

    for _ in range(40):
        segment()
        assert sum(alive()) <= 8, alive()
    same(segment().numpy(), expected)
    last = segment()
    assert not any(alive()[:-1]), alive()
    same(last.numpy(), expected)
    del engine
    gc.collect()
    assert not any(alive()), alive()
    same(last.numpy(), expected)


def errors():
    engine, context = setting()
    image = an_image()
    array = DeviceArray(image, stream=context.stream()).write()
    cpu = make_engine()
    for given in (array, Lent(array, [])):
        refused(lseg_fast.InputError, "the engine is on the CPU", cpu.segment, given)
    refused(lseg_fast.DeviceError, "on a GPU alone", cpu.segment, image, on_device=True)
    refused(lseg_fast.InputError, "out is of the host", engine.segment, image, on_device=True, out=np.empty((46, 60), np.uint16))
    upwards = Strided(array, (-180, 3, 1))
    refused(lseg_fast.InputError, "contiguous", engine.segment, upwards)
    nowhere = Strided(array, (180, 3, 1), address=4096)
    refused(lseg_fast.Error, "", engine.segment, nowhere)
    same(engine.segment(array), engine.segment(image))
    tensor = engine.segment(image, on_device=True)
    for keywords in ({"dl_device": (2, 1)}, {"copy": True}, {"stream": 0}, {"dl_device": (1, 0), "copy": False}):
        refused(BufferError, "", tensor.__dlpack__, **keywords)
    for stream in (1, 2, -1, None):
        tensor.__dlpack__(stream=stream)
    refused(AttributeError, "numpy()", getattr, tensor, "__array_interface__")


class Strided:
    def __init__(self, array, strides, address=None):
        self.kept = array
        told = array.__cuda_array_interface__
        self.__cuda_array_interface__ = {**told, "strides": strides, "data": (address or told["data"][0], False)}


def refused(kind, what, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except kind as error:
        assert what in str(error), str(error)
    else:
        raise AssertionError(f"{function} took {arguments} {keywords}")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
