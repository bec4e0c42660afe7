"""The two that lseg-fast is compared with, as `compare_cpu.py` starts them: PyTorch eager and ONNX Runtime.

    contenders.py pytorch      one photo after another in eager mode, text features made once at the start
    contenders.py onnxruntime  the same through the exported graph, PyTorch's text features given
    contenders.py export       writes the graph and the text features for onnxruntime
    contenders.py trial        seconds of one frame in each form of the eager model, as JSON

Both compute uint8 RGB pixels → scores at full size → their argmax. The first two speak as `examples/frame_loop.rs`
does: `ready`, then `frame` and `mask FILE` at the driver's word; also `scores FILE`.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

FORMS = ("plain", "plain,channels_last", "sdpa", "sdpa,channels_last")


def pixels(args):
    return np.array(Image.open(args.photo).convert("RGB"))[None]


def serve(scores_and_mask):
    """Answers orders until stdin ends. scores_and_mask(names) → the named outputs as arrays, in that order."""
    print("ready", flush=True)
    mask = None
    for line in sys.stdin:
        order, _, file = line.strip().partition(" ")
        if order == "frame":
            start = time.perf_counter()
            (mask,) = scores_and_mask(["mask"])
            print(time.perf_counter() - start, flush=True)
        elif order == "mask":
            mask[0].astype("<u2").tofile(file)
            print(*mask.shape[1:], flush=True)
        elif order == "scores":
            (scores,) = scores_and_mask(["scores"])
            np.save(file, scores[0])
            print(*scores.shape[1:], flush=True)
        else:
            sys.exit(f"order {line!r}: expected frame, mask FILE or scores FILE")


def eager(args, form):
    """The reference model on mapped weights, without the statistics that it keeps for the golden cases."""
    import torch
    import torch.nn.functional as F

    sys.path.append(str(Path(__file__).parents[1] / "tests" / "golden"))
    import published  # noqa: F401  (the class names in the checkpoint's pickle)
    from lseg_reference import Lseg, VitAttention

    def attention(self, x):
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        if form.startswith("sdpa"):
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-1, -2) * (dim // self.heads) ** -0.5).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(batch, tokens, dim))

    VitAttention.forward = attention
    torch.set_num_threads(args.threads)
    with torch.device("meta"):
        model = Lseg(json.loads((args.dir / "config.json").read_text()))
    state = torch.load(args.dir / "model.ckpt", map_location="cpu", mmap=True, weights_only=False)["state_dict"]
    model.load_state_dict({key.removeprefix("net."): tensor for key, tensor in state.items()}, assign=True)
    model = model.float().eval()
    if form.endswith("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    return model


def eager_frame(model, photo, text, form):
    """uint8 [1, H, W, 3] → scores [1, N, H, W] and mask [1, H, W]."""
    import torch

    image = model.normalise(photo)
    if form.endswith("channels_last"):
        image = image.contiguous(memory_format=torch.channels_last)
    scores = model.score(model.decode(model.encode(image)[1]), text)[2]
    return scores, scores.argmax(1)


def text_features(args, model):
    import torch

    return model.clip_pretrained(torch.from_numpy(np.load(args.dir / "tokens.npy")))


def pytorch(args):
    import torch

    with torch.inference_mode():
        model = eager(args, args.form)
        text, photo = text_features(args, model), pixels(args)

        def outputs(names):
            named = dict(zip(("scores", "mask"), eager_frame(model, photo, text, args.form)))
            return [named[name].numpy() for name in names]

        serve(outputs)


def trial(args):
    """Each form's second frame."""
    import torch

    seconds = {}
    with torch.inference_mode():
        for form in FORMS:
            model, photo = eager(args, form), pixels(args)
            text = text_features(args, model)
            for _ in range(2):
                start = time.perf_counter()
                eager_frame(model, photo, text, form)
                seconds[form] = time.perf_counter() - start
    print(json.dumps(seconds))


def onnxruntime(args):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = ort.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
    inputs = {"pixels": pixels(args), "text": np.load(args.dir / "text.npy")}
    serve(lambda names: session.run(names, inputs))


def export(args):
    import torch

    class Frame(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, pixels, text):
            return eager_frame(self.model, pixels, text, "plain")

    with torch.no_grad():
        model = eager(args, "plain")
        text = text_features(args, model)
        np.save(args.dir / "text.npy", text.numpy())
        names = {"input_names": ["pixels", "text"], "output_names": ["scores", "mask"]}
        inputs = (torch.from_numpy(pixels(args)), text)
        args.onnx.parent.mkdir(exist_ok=True)
        torch.onnx.export(Frame(model).eval(), inputs, args.onnx, **names, dynamo=True, external_data=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    roles = {"pytorch": pytorch, "onnxruntime": onnxruntime, "export": export, "trial": trial}
    parser.add_argument("role", choices=roles)
    parser.add_argument("--dir", type=Path, required=True, help="holds model.ckpt, config.json, tokens.npy")
    parser.add_argument("--photo", type=Path, required=True, help="at the network's size")
    parser.add_argument("--onnx", type=Path, help="the exported graph")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--form", choices=FORMS, default=FORMS[0], help="of the eager model")
    args = parser.parse_args()
    roles[args.role](args)


if __name__ == "__main__":
    main()
