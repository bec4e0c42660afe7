"""What is made once: network, weights, photo and labels."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from full_size_case import CONFIG, LABELS, SEED

from . import HERE
from .words import note, timed, whole

FULL = {
    "config": CONFIG,
    "labels": LABELS,
    # open_clip's, which is not where this runs.
    "tokens": [[49406, 2368, 49407], [49406, 48581, 3912, 49407], [49406, 9057, 4125, 49407], [49406, 2569, 49407],
               [49406, 1010, 49407]],
    "size": [480, 480],
    "centre_step": 3,  # head1 is centred on every third row and column
}  # fmt: skip
SMALL = {
    "config": FULL["config"] | {
        "preset": "custom",
        "image": {
            "kind": "vit", "patch": 16, "dim": 64, "depth": 4, "heads": 1, "mlp": 64, "grid": 6, "hooks": [0, 1, 2, 3],
        },
        "reassemble": [16, 16, 32, 32],
        "features": 16,
        "text": {"vocab": 600, "context": 77, "width": 64, "layers": 2, "heads": 1, "mlp": 64},
        "embed_dim": 64,
    },
    "labels": LABELS,
    "tokens": [[598, 66, 536, 599], [598, 79, 78, 83, 83, 538, 79, 75, 514, 339, 599],
               [598, 86, 574, 561, 333, 69, 549, 541, 599], [598, 86, 526, 331, 599], [598, 78, 513, 528, 599]],
    "size": [64, 96],
    "centre_step": 1,
}  # fmt: skip


def prepare(args, say):
    case = SMALL if args.small else FULL
    folder = args.dir
    folder.mkdir(parents=True, exist_ok=True)
    if args.bin and not args.small:  # a small token table would need its model
        check_tokens(args.bin, case)
    if (folder / "case.json").exists() and json.loads((folder / "case.json").read_text()) == case:
        note(f"{folder} has it already")
    else:
        make(folder, case)
    files = ("model.ckpt", "photo.ppm", "labels.txt", "text_reference.npy", "case.json")
    say({"prepared": str(folder), "bytes": {name: (folder / name).stat().st_size for name in files}})


def check_tokens(program, case):
    for label, ids in zip(case["labels"], case["tokens"]):
        answer = subprocess.run([program, "tokenize", "--json", "--", label], check=True, stdout=subprocess.PIPE)
        got = json.loads(answer.stdout)["ids"]
        if got != ids:
            sys.exit(f"{program} says {got} for {label!r}, open_clip {ids}")


def make(folder, case):
    import numpy as np
    import torch

    import published
    import seeded
    from lseg_reference import Lseg

    config = case["config"]
    image = take_photo(case["size"])
    with whole(folder / "photo.ppm") as part:
        height, width = case["size"]
        part.write_bytes(b"P6\n%d %d\n255\n" % (width, height) + image.tobytes())
    with whole(folder / "labels.txt") as part:
        part.write_text("\n".join(case["labels"]) + "\n")
    with timed("empty network"), torch.device("meta"):
        model = Lseg(config)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()  # what seeded.fill leaves alone is zero in a network made the ordinary way, too
        with timed("seeded weights"):
            seeded.fill(model, SEED)
        state = partial(published.state_dict, model, torch.float16, torch.float32)
        model.load_state_dict({k.removeprefix("net."): v for k, v in state().items()})
        with timed("text features"):
            text = model.clip_pretrained(padded(case))
        with timed(f"forward on {torch.get_num_threads()} threads"):
            path1 = model.decode(model.encode(model.normalise(image[None]))[1])
        with timed("centring"):
            step = case["centre_step"]
            seeded.centre(model, path1[..., ::step, ::step], text, SEED + 1)
        shares = seeded.label_shares(model.score(path1, text)[2])[0]
    note("label shares", [round(share, 3) for share in shares.tolist()])
    assert shares.min() > 0.03, f"a label hardly wins anywhere: {shares}"
    with timed("writing"):
        with whole(folder / "text_reference.npy") as part, open(part, "wb") as file:
            np.save(file, text.numpy())
        with whole(folder / "model.ckpt") as part:
            published.save(part, state(), "attribute_dict", config["head_block"])
        with whole(folder / "case.json") as part:  # last: it says that the others are there
            part.write_text(json.dumps(case))


def padded(case):
    """Token ids [N, context], zeros after the end."""
    import torch

    tokens = torch.zeros(len(case["tokens"]), case["config"]["text"]["context"], dtype=torch.long)
    for row, ids in zip(tokens, case["tokens"]):
        row[: len(ids)] = torch.tensor(ids)
    return tokens


def take_photo(size):
    """uint8 RGB [height, width, 3]: the cat where it is at hand, else what seeded.py draws."""
    import numpy as np

    import seeded

    roots = [os.environ.get("LSEG_TEST_ROOT"), HERE.parent / "root", HERE.parents[1]]
    for root in filter(None, roots):
        file = Path(root) / "weights" / "photos" / "cat.jpg"
        if file.exists():
            from PIL import Image

            image = Image.open(file).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
            return np.ascontiguousarray(np.array(image))
    note("no weights/photos/cat.jpg: a drawn photo")
    return seeded.photo(SEED + 2, *size)


def read_case(args):
    """What `prepare` wrote: the case, or what it will write where a run has not finished yet."""
    file = args.dir / "case.json"
    return json.loads(file.read_text()) if file.exists() else (SMALL if args.small else FULL)


def read_photo(folder):
    """uint8 RGB [height, width, 3]."""
    import numpy as np
    from PIL import Image

    return np.ascontiguousarray(np.array(Image.open(folder / "photo.ppm").convert("RGB")))
