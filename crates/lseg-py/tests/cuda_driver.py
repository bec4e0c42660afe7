"""CUDA's driver by ctypes, as far as a caller of the engine needs it: memory and streams of a GPU's primary context, in which PyTorch and
CuPy are at home too. Of NVIDIA's library, or of the virtual GPU's.
"""

import ctypes
import functools

import numpy as np

# kDLCUDA
CUDA = 2


@functools.cache
def library():
    """The engine's own, which it looks for by these names in this order; None where there is no driver, or no GPU."""
    for name in ("libcuda.so", "libcuda.so.1"):
        try:
            cuda = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        return None
    count = ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return None
    return cuda


def call(name, *arguments):
    result = getattr(library(), name)(*arguments)
    assert result == 0, f"{name}: error {result}"


class Context:
    """The primary context of GPU 0, current in this thread."""

    def __init__(self):
        device, self.handle = ctypes.c_int(), ctypes.c_void_p()
        call("cuDeviceGet", ctypes.byref(device), 0)
        call("cuDevicePrimaryCtxRetain", ctypes.byref(self.handle), device)
        call("cuCtxSetCurrent", self.handle)

    def stream(self):
        """That waits for no other."""
        stream = ctypes.c_void_p()
        call("cuStreamCreate", ctypes.byref(stream), 1)
        return stream.value

    def synchronise(self, stream):
        call("cuStreamSynchronize", ctypes.c_void_p(stream))


class DeviceArray:
    """Memory of the GPU with rows of a pitch, which speaks the CUDA array interface."""

    def __init__(self, array, pad=0, stream=None):
        self.shape, self.dtype = array.shape, array.dtype
        self.row = array[0].nbytes
        self.pitch = self.row + pad
        self.stream = stream
        self.memory = ctypes.c_uint64()
        call("cuMemAlloc_v2", ctypes.byref(self.memory), ctypes.c_size_t(self.pitch * len(array)))
        call("cuMemsetD8_v2", self.memory, ctypes.c_ubyte(255), ctypes.c_size_t(self.pitch * len(array)))
        call("cuCtxSynchronize")
        self.host = np.full((len(array), self.pitch), 255, np.uint8)
        self.host[:, : self.row] = array.reshape(len(array), -1).view(np.uint8)

    def write(self):
        """Queues the pixels' way there on the stream; they are not there when this returns."""
        source = ctypes.c_void_p(self.host.ctypes.data)
        stream = ctypes.c_void_p(self.stream)
        call("cuMemcpyHtoDAsync_v2", self.memory, source, ctypes.c_size_t(self.host.nbytes), stream)
        return self

    @property
    def __cuda_array_interface__(self):
        item = self.dtype.itemsize
        inner = [item * int(np.prod(self.shape[axis + 1 :])) for axis in range(1, len(self.shape))]
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.memory.value, False),
            "strides": (self.pitch, *inner),
            "version": 3,
            "stream": self.stream,
        }

    def free(self):
        call("cuMemFree_v2", self.memory)


def read(address, shape, dtype, stream):
    """What a stream finds at an address."""
    array = np.empty(shape, dtype)
    target = ctypes.c_void_p(array.ctypes.data)
    call("cuMemcpyDtoHAsync_v2", target, ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes), ctypes.c_void_p(stream))
    call("cuStreamSynchronize", ctypes.c_void_p(stream))
    return array
