"""What every Python that the wheel is for must do: `python smoke.py`."""

import sys

import numpy as np

import lseg_fast

engine = lseg_fast.Engine(device="cpu", threads=1)
engine.size = "64x64"
engine.set_labels(["grass", "sky", "other"])
image = np.full((48, 64, 3), 128, np.uint8)
mask = engine.segment(image)
assert mask.shape == (48, 64) and mask.dtype == np.uint16 and mask.max() < 3
tensor = engine.embed(image)
assert np.from_dlpack(tensor).ctypes.data == tensor.numpy().ctypes.data
try:
    engine.segment(np.zeros((2, 2), np.int64))
except lseg_fast.InputError as error:
    assert "int" in str(error) or "64 bits" in str(error)
else:
    raise AssertionError("an image of int64")
print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}: lseg-fast {lseg_fast.__version__} works")
