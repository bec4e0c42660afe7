"""Golden resizes of 8-bit photos: what Pillow's and OpenCV's bilinear make of seeded bytes, to the last bit.

`protocols.py` writes and compares the file.
"""

import numpy as np
from safetensors.numpy import load_file, save_file

from protocol_reference import opencv_resize, pillow_resize

FILE = "resize.safetensors"

# ((height, width) of the photo, of the result)
PILLOW = [
    ((1, 1), (1, 1)),
    ((1, 1), (5, 7)),
    ((7, 5), (1, 1)),
    ((2, 2), (3, 3)),
    ((31, 33), (64, 64)),
    ((33, 31), (48, 48)),
    ((40, 30), (40, 30)),
    ((40, 30), (40, 60)),
    ((40, 30), (80, 30)),
    ((48, 64), (64, 64)),
    ((50, 49), (49, 50)),
    ((64, 64), (32, 32)),
    ((65, 63), (32, 32)),
    ((97, 61), (48, 48)),
    ((100, 7), (9, 80)),
    ((3, 150), (40, 30)),
    ((90, 50), (13, 11)),
    ((1, 90), (16, 16)),
    ((90, 1), (16, 16)),
    ((17, 19), (96, 64)),
]
OPENCV = [
    ((1, 1), (5, 7)),
    ((30, 40), (48, 64)),
    ((48, 64), (24, 32)),  # exactly a half, where OpenCV takes means of four
    ((61, 47), (29, 83)),
    ((9, 60), (48, 64)),
    ((90, 67), (48, 64)),
    ((1, 50), (20, 30)),
    ((33, 31), (33, 31)),
]


def make(folder):
    rng, tensors = np.random.Generator(np.random.PCG64(9)), {}
    for library, function, sizes in (("pillow", pillow_resize, PILLOW), ("opencv", opencv_resize, OPENCV)):
        for i, (size, result) in enumerate(sizes):
            photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            tensors[f"{library}/{i}/photo"] = photo
            tensors[f"{library}/{i}/resized"] = function(photo, *result)
    save_file(tensors, folder / FILE)


def same(fresh, committed):
    """Whether both folders' files have the same bytes in every tensor."""
    new, old = load_file(fresh / FILE), load_file(committed / FILE)
    return new.keys() == old.keys() and all(np.array_equal(new[key], old[key]) for key in new)
