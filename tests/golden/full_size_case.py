"""The full-size case: vitl16 at 480×480, five labels, seeded weights; how far float16 may be from PyTorch's float32.

Shared by full_size.py and benches/gpu/torch_lseg.py, so it needs nothing but Python.
"""

HALVES = [0.5, 0.5, 0.5]
SIDE = 480
LABELS = ["cat", "potted plant", "wooden floor", "wall", "other"]
SEED = 9001
CONFIG = {
    "preset": "vitl16",
    "image": {
        "kind": "vit", "patch": 16, "dim": 1024, "depth": 24, "heads": 16, "mlp": 4096, "grid": 24,
        "hooks": [5, 11, 17, 23],
    },
    "reassemble": [256, 512, 1024, 1024],
    "features": 256,
    "text": {"vocab": 49408, "context": 77, "width": 512, "layers": 12, "heads": 8, "mlp": 2048},
    "embed_dim": 512,
    "head_block": {"kind": "none", "depth": 0, "activation": "relu"},
    "mean": HALVES,
    "std": HALVES,
    "default_size": "long:480",
}  # fmt: skip
# The largest error of the scores over their range; a pixel is decided where its two best labels differ by more than this share
# of the range; the share of decided pixels that must agree.
FLOAT16 = (0.01, 0.01, 0.995)
