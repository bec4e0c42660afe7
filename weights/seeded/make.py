"""Makes weights/seeded/seeded.ckpt: a small LSeg with seeded random weights, in the published checkpoint format.

    python weights/seeded/make.py     # needs tests/golden/requirements.txt

The network has learnt nothing; README.md says what it is for.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "golden"))

import published  # noqa: E402
import seeded  # noqa: E402
from clip_tokens import tokenizer  # noqa: E402
from generate import config, vit  # noqa: E402
from lseg_reference import Lseg  # noqa: E402

SEED = 8031
LABELS = ["cat", "wall", "other"]
PHOTO = HERE.parent / "photos" / "cat.jpg"
CONFIG = config(vit(16, 64, 4, 64, 12), [16, 16, 32, 32], 24, 800, 64)


def photo():
    """The shipped photo as `--size long:480` feeds it to the network: uint8 RGB [1, 320, 480, 3]."""
    image = torch.from_numpy(np.array(Image.open(PHOTO).convert("RGB"))).permute(2, 0, 1)[None].float()
    height, width = image.shape[2:]
    size = (round(480 * height / width / 32) * 32, 480)
    resized = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
    return resized.round().to(torch.uint8).permute(0, 2, 3, 1)


def smooth(model):
    """Gives every tap of a transposed convolution the same weights, and positions little say: random ones draw a grid
    over the photo."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.ConvTranspose2d):
                module.weight.copy_(module.weight[..., :1, :1].expand_as(module.weight))
        model.pretrained.model.pos_embed *= 0.2
    return model


def main():
    torch.set_num_threads(1)  # one order of summation: equal bytes on one machine
    model = smooth(seeded.fill(Lseg(CONFIG), SEED))
    tokens, pixels = tokenizer(CONFIG["text"]["vocab"])(LABELS), photo()
    with torch.no_grad():
        path1 = model.decode(model.encode(model.normalise(pixels))[1])
        seeded.centre(model, path1, model.clip_pretrained(tokens), SEED + 1)
    state = published.state_dict(model, torch.float16, torch.float16)
    published.save(HERE / "seeded.ckpt", state, "empty", CONFIG["head_block"])

    mask = published.load(HERE / "seeded.ckpt", Lseg(CONFIG))(pixels, tokens)["mask"][0]
    shares = torch.bincount(mask.flatten(), minlength=len(LABELS)) / mask.numel()
    print(", ".join(f"{label} {share:.1%}" for label, share in zip(LABELS, shares)))
    assert shares.min() > 0.1, "a mask that names nearly everything alike shows nothing"
    if len(sys.argv) > 1:  # a place for a picture of the mask
        Image.fromarray((mask * 100).to(torch.uint8).numpy()).save(sys.argv[1])


if __name__ == "__main__":
    main()
