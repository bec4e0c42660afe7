"""DLPack's structures by ctypes: a producer and a consumer that nobody else wrote."""

import ctypes

api = ctypes.pythonapi
api.PyCapsule_New.restype = ctypes.py_object
api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
api.PyCapsule_IsValid.restype = ctypes.c_int
api.PyCapsule_IsValid.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_GetPointer.restype = ctypes.c_void_p
api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]

OLD, VERSIONED = b"dltensor", b"dltensor_versioned"
USED = {OLD: b"used_dltensor", VERSIONED: b"used_dltensor_versioned"}
DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class Managed(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", DELETER)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", DELETER),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


def name_of(capsule):
    return VERSIONED if api.PyCapsule_IsValid(capsule, VERSIONED) else OLD


def managed_tensor(capsule):
    """What a capsule tells; it stays the capsule's."""
    name = name_of(capsule)
    address = api.PyCapsule_GetPointer(capsule, name)
    return (Managed if name == OLD else Versioned).from_address(address).tensor


def take(capsule):
    """A consumer's part: the managed tensor and its address; its deleter is now the caller's to call."""
    name = name_of(capsule)
    address = api.PyCapsule_GetPointer(capsule, name)
    # The name must live as long as the capsule.
    api.PyCapsule_SetName(capsule, USED[name])
    return (Managed if name == OLD else Versioned).from_address(address), address


# Of each tensor that was lent and not given back.
lent = {}


@DELETER
def _give_back(address):
    del lent[address]


def capsule(address, shape, strides, device, versioned, element=(1, 8), offset=0, major=1):
    """A capsule of bytes at an address, with strides in elements; `lent` tells when its deleter was called."""
    numbers = ctypes.c_int64 * len(shape)
    managed = Versioned() if versioned else Managed()
    kept = (managed, numbers(*shape), numbers(*strides) if strides else None)
    if versioned:
        managed.major = major
    managed.deleter = _give_back
    tensor = managed.tensor
    tensor.data, tensor.byte_offset = address, offset
    tensor.device_type, tensor.device_id = device
    tensor.ndim, tensor.code, tensor.bits, tensor.lanes = len(shape), *element, 1
    tensor.shape = ctypes.cast(kept[1], ctypes.POINTER(ctypes.c_int64))
    if strides:
        tensor.strides = ctypes.cast(kept[2], ctypes.POINTER(ctypes.c_int64))
    lent[ctypes.addressof(managed)] = kept
    return api.PyCapsule_New(ctypes.addressof(managed), VERSIONED if versioned else OLD, None)
