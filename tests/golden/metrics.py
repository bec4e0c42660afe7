"""Makes metrics.json: random masks, and what scikit-learn and torchmetrics say of them.

pip install -r requirements.txt scikit-learn==1.9.1 torchmetrics==1.9.0
"""

import json
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score
from torchmetrics.classification import MulticlassJaccardIndex

WIDTH, HEIGHT, PHOTOS = 13, 11, 3


def case(seed, name, labels, ids, ignored, absent=()):
    """Masks of `ids`, one a label, and of `ignored`; no label of `absent` is true or predicted."""
    random = np.random.default_rng(seed)
    present = [label for label in range(labels) if label not in absent]
    shape = (PHOTOS, HEIGHT, WIDTH)
    prediction = random.choice(present, shape)
    truth = np.where(random.random(shape) < 0.6, prediction, random.choice(present, shape))
    mask = np.array(ids)[truth]
    mask = np.where(random.random(shape) < 0.2, ignored, mask)
    labelled = mask != ignored
    true, said = truth[labelled], prediction[labelled]
    each = range(labels)
    matrix = confusion_matrix(true, said, labels=each)
    iou = jaccard_score(true, said, labels=each, average=None, zero_division=0)
    # torchmetrics leaves out the labels that are absent from both; of one label alone it knows nothing.
    present_iou = 1.0
    if labels > 1:
        present_iou = MulticlassJaccardIndex(labels, average="macro")(torch.tensor(said), torch.tensor(true)).item()
    return {
        "name": name,
        "labels": labels,
        "ids": ids,
        "ignored": ignored,
        "width": WIDTH,
        "height": HEIGHT,
        "masks": mask.reshape(PHOTOS, -1).tolist(),
        "predictions": prediction.reshape(PHOTOS, -1).tolist(),
        "pixel_accuracy": accuracy_score(true, said),
        "mean_iou": jaccard_score(true, said, labels=each, average="macro", zero_division=0),
        "mean_iou_present": present_iou,
        "frequency_weighted_iou": jaccard_score(true, said, labels=each, average="weighted", zero_division=0),
        "iou": iou.tolist(),
        "confusion": [[i, j, int(n)] for (i, j), n in np.ndenumerate(matrix) if n],
    }


def main():
    cases = [
        case(0, "plain", 5, list(range(5)), 255),
        case(1, "labels that are absent", 9, list(range(9)), 255, absent=(0, 4, 8)),
        case(2, "ids of 16 bits", 4, [7, 300, 4660, 65534], 65535),
        case(3, "many labels", 300, list(range(300)), 999, absent=tuple(range(40, 290))),
        case(4, "one label", 1, [0], 9),
    ]
    Path(__file__).with_name("metrics.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
