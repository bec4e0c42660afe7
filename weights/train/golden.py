"""What PyTorch makes of the exported file on the stored scenes -> weights/demo/scenes/SCENE.scores.npy, float32
[labels, h/4, w/4]: every fourth row and column of the scores for the names that are there, the absent ones and "other"."""

import json

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import export
import tower
from image import normalised
from network import TEXT, ImageModel, TextTower, pixels
from sources import DEMO

SCENES = ["training-00", "twemoji-00"]


def main():
    tensors = {k: v.float() for k, v in load_file(export.PATH).items()}
    text_tower, model = TextTower(**TEXT).eval(), ImageModel().eval()
    root = "clip_pretrained."
    text_tower.load_state_dict({k[len(root) :]: v for k, v in tensors.items() if k.startswith(root)})
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(root)} | counters)
    for asked in json.loads((DEMO / "scenes" / "scenes.json").read_text()):
        if asked["scene"] not in SCENES:
            continue
        labels = [*asked["present"], *asked["absent"], "other"]
        image = cv2.imread(str(DEMO / "scenes" / f"{asked['scene']}.png"))[..., ::-1]
        with torch.inference_mode():
            path = model(normalised([image]))
            scores = model.scores(pixels(path), tower.vectors(text_tower, labels)[None])
            scores = scores.transpose(1, 2).unflatten(2, path.shape[2:])
            scores = F.interpolate(scores, scale_factor=2, mode="bilinear", align_corners=True)[0]
        np.save(DEMO / "scenes" / f"{asked['scene']}.scores.npy", scores[:, ::4, ::4].contiguous().numpy())


if __name__ == "__main__":
    main()
