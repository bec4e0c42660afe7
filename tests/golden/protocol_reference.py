"""How people run LSeg over whole photos, in plain PyTorch: one function a preset, its keywords the preset's numbers.

Everything is written the long way: the whole normalised image is resized and padded, windows are cut one by one, every
output map is added at its place and divided by a count, every scale's map is resized to the photo and summed.

| preset | published as |
|---|---|
| `lseg-eval`, also called `notebook` | LSeg's test_lseg.py and lseg_demo.ipynb: six scales, windows, flips |
| `lseg-eval-citys` | the same evaluation with the numbers of Cityscapes |
| `app` | LSeg's lseg_app.py: the photo first to 360×480 |
| `zero-shot` | LSeg's few-shot evaluation: the 8-bit photo by Pillow, one pass |
| `vlmaps` | VLMaps: unit vectors over 0.07 in float16, one scale, not resized back |
| `openscene` | OpenScene's lseg_feature_extraction: unit vectors at half resolution of twice the photo |
| `feature3dgs` | Feature 3DGS's encode_images.py: raw features over four scales |
| `lseg-minimal`, also called `conceptfusion` | lseg-minimal: the bytes by OpenCV, neither mean nor std, one pass |
| `lsm` | LSM: the photo at the caller's size, one pass |

A photo is uint8 RGB [H, W, 3]; x is the normalised photo, [1, 3, H, W]; maps are [1, d, h, w] until a preset returns
[d, h, w]. Scores are the network's, after the head block and the ×2 upsampling.
"""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from lseg_reference import LOGIT_SCALE, upsample2

LSEG_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
CITYS_SCALES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25)
GS_SCALES = (0.75, 1.0, 1.25, 1.75)
STEP = 32  # every network's input is a multiple of it


class Network:
    """An `Lseg` with the label vectors of one case: what is taken of a pass, and how many passes there were."""

    def __init__(self, model, text):
        self.model, self.text, self.passes = model, text, 0

    def path1(self, x):
        self.passes += 1
        return self.model.decode(self.model.encode(x)[1])

    def scores(self, x):
        """[1, N, H, W]"""
        return self.model.score(self.path1(x), self.text)[2]

    def features(self, x):
        """[1, C, H/2, W/2], head1's output as it is."""
        return self.model.scratch.head1(self.path1(x))

    def upsampled_features(self, x):
        return upsample2(self.features(x))

    def units(self, x):
        """[1, C, H/2, W/2], of length 1 at every pixel."""
        features = self.features(x)
        return features / features.norm(dim=1, keepdim=True)

    def vlmaps(self, x):
        """[1, C, H, W]: VLMaps scales the image side by 1 / 0.07, rounds it to float16, and upsamples it in float32."""
        return upsample2((LOGIT_SCALE * self.units(x)).half().float())

    def normalise(self, photo):
        return self.model.normalise(photo[None])

    def pad(self, x, height, width):
        """Appends black right and below."""
        black = self.normalise(np.zeros((height, width, 3), np.uint8))
        black[..., : x.shape[2], : x.shape[3]] = x
        return black


# ----------------------------------------------------------------------------------------------------------- the pieces


def resize(x, height, width):
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=True)


def resize_half_pixel(x, height, width):
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def pillow_resize(photo, height, width):
    """Bytes by Pillow's bilinear, with antialiasing. Two calls, rows before columns, as Pillow up to version 12 has it
    in one: 13 begins with columns for some sizes, and the bytes in between are then rounded elsewhere."""
    rows = Image.fromarray(photo).resize((width, len(photo)), Image.Resampling.BILINEAR)
    return np.array(rows.resize((width, height), Image.Resampling.BILINEAR))


def opencv_resize(photo, height, width):
    """Bytes by OpenCV's bilinear, without antialiasing."""
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_LINEAR)


def mirror(x):
    return x.flip(-1)


def scaled_size(height, width, long_side):
    if height > width:
        return long_side, max(1, int(width * long_side / height + 0.5))
    return max(1, int(height * long_side / width + 0.5)), long_side


def starts(length, crop, stride):
    """Where windows begin along a side; the last one may end beyond it and is then cut."""
    return [i * stride for i in range(math.ceil((length - crop) / stride) + 1)]


def one_window(net, take, window, crop, flip):
    """`take` of a window [1, 3, h, w] padded to crop, and of that one's mirror image: flip "none", "sum" or "mean"."""
    h, w = window.shape[2:]
    p = net.pad(window, crop, crop)
    out = take(p)
    if flip != "none":
        out = out + mirror(take(mirror(p)))
    return (out / 2 if flip == "mean" else out)[..., :h, :w]


def over_windows(net, take, p, crop, stride, flip):
    """The mean of the windows that cover each pixel of p, whose sides are crop at least."""
    height, width = p.shape[2:]
    total, count = 0, torch.zeros(1, 1, height, width)
    for top in starts(height, crop, stride):
        for left in starts(width, crop, stride):
            bottom, right = min(top + crop, height), min(left + crop, width)
            out = one_window(net, take, p[..., top:bottom, left:right], crop, flip)
            total = total + F.pad(out, (left, width - right, top, height - bottom))
            count[..., top:bottom, left:right] += 1
    return total / count


def one_scale(net, take, x, long_side, crop, stride, flip):
    """x with its long side resized to long_side → [1, d, h, w] of that size."""
    y = resize(x, *scaled_size(*x.shape[2:], long_side))
    h, w = y.shape[2:]
    if long_side <= crop:
        return one_window(net, take, y, crop, flip)
    return over_windows(net, take, net.pad(y, max(h, crop), max(w, crop)), crop, stride, flip)[..., :h, :w]


def over_scales(net, take, x, base, crop, stride, scales, flip):
    """The sum of all scales' maps, each resized to x."""
    stride = int(crop * 2 / 3) if stride is None else stride
    maps = [one_scale(net, take, x, math.ceil(base * scale), crop, stride, flip) for scale in scales]
    return sum(resize(out, *x.shape[2:]) for out in maps)


# ---------------------------------------------------------------------------------------------------------- the presets


def lseg_eval(net, photo, base=520, crop=480, stride=None, scales=LSEG_SCALES, flip="sum"):
    return over_scales(net, net.scores, net.normalise(photo), base, crop, stride, scales, flip)[0]


def lseg_eval_citys(net, photo, base=2048, crop=768, stride=None, scales=CITYS_SCALES, flip="sum"):
    return over_scales(net, net.scores, net.normalise(photo), base, crop, stride, scales, flip)[0]


def app(net, photo, before=(360, 480), base=520, crop=480, stride=None, scales=LSEG_SCALES, flip="sum"):
    x = resize_half_pixel(net.normalise(photo), *before)
    return over_scales(net, net.scores, x, base, crop, stride, scales, flip)[0]


def zero_shot(net, photo, size=(480, 480)):
    return net.scores(net.normalise(pillow_resize(photo, *size)))[0]


def vlmaps(net, photo, base=520, crop=480, stride=None, scales=(1.0,), flip="none"):
    """Of the resized photo's size: of several scales there is no sum."""
    stride = int(crop * 2 / 3) if stride is None else stride
    (scale,) = scales
    return one_scale(net, net.vlmaps, net.normalise(photo), math.ceil(base * scale), crop, stride, flip)[0]


def openscene(net, photo, flip="sum"):
    height, width = photo.shape[:2]
    long_side = 2 * max(height, width)
    crop = math.ceil(long_side / STEP) * STEP
    y = resize(net.normalise(photo), *scaled_size(height, width, long_side))
    return one_window(net, net.units, y, crop, flip)[0, :, :height, :width]


def feature3dgs(net, photo, before=(360, 480), base=520, crop=480, stride=None, scales=GS_SCALES, flip="mean"):
    """Only a photo wider than `before` is resized to it; corners are aligned, other than in `app`."""
    x = net.normalise(photo)
    if x.shape[3] > before[1]:
        x = resize(x, *before)
    return over_scales(net, net.upsampled_features, x, base, crop, stride, scales, flip)[0]


def lseg_minimal(net, photo, size=(480, 640)):
    x = torch.as_tensor(opencv_resize(photo, *size)).permute(2, 0, 1)[None].to(net.text.dtype) / 255
    return net.features(x)[0]


def lsm(net, photo, size=(256, 256)):
    """Mean and std are 0.5 whatever the network's own are."""
    x = torch.as_tensor(photo).permute(2, 0, 1)[None].to(net.text.dtype) / 255
    return net.features(resize_half_pixel((x - 0.5) / 0.5, *size))[0]


PRESETS = {
    "lseg-eval": lseg_eval,
    "lseg-eval-citys": lseg_eval_citys,
    "app": app,
    "zero-shot": zero_shot,
    "vlmaps": vlmaps,
    "openscene": openscene,
    "feature3dgs": feature3dgs,
    "lseg-minimal": lseg_minimal,
    "lsm": lsm,
}
SCORES = ("lseg-eval", "lseg-eval-citys", "app", "zero-shot")  # the others give feature channels


def run(preset, model, text, photo, overrides):
    """→ (the preset's map [d, h, w], how many passes of the network it took)."""
    net = Network(model, text)
    with torch.no_grad():
        out = PRESETS[preset](net, photo, **overrides)
    return out, net.passes
