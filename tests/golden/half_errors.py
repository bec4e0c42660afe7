"""The errors that PyTorch's half precision makes against float64, for every case of the table of operations.

    LSEG_DUMP_CASES=/tmp/cases cargo test --test cuda dump      (an existing, empty folder)
    python tests/golden/half_errors.py /tmp/cases               → half_errors.json beside this file

What "the same precision in PyTorch" means: its tensors have the types that the CUDA device's have, as under torch.autocast.
Activations, weights and biases of products are torch.float16, and so is the result of every linear, convolution, attention
and interpolation of activations. What is float32 on the device is float32 here: the residual stream (a product is rounded
to half, then added in float32), LayerNorm inside, positions, the norm of embeddings, logits and all that follows. The
published model in half, stream and logits included, errs more; the strict form is the one to hold kernels to. Attention is
scaled_dot_product_attention, which keeps the logits in float32, not the written-out softmax, which rounds them.

PyTorch runs on the CPU. Each operation is also run in float64 and must then equal the float64 loops of testing/src/cases, so
that both mean the same.
"""

import json
import re
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open

FUNCTIONS = {
    "identity": lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "quickgelu": lambda x: x * torch.sigmoid(1.702 * x),
    "lrelu": lambda x: F.leaky_relu(x, 0.01),
    "tanh": torch.tanh,
}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def first(maps):
    """[b, h, w, c] → [b, c, h, w]"""
    return maps.permute(0, 3, 1, 2).contiguous()


def last(maps):
    return maps.permute(0, 2, 3, 1)


def resize(x, size, corners):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=corners)


def border(size, out, stride):
    """Which borders the 3×3 patches of an output reach over: 1 above, 2 below, 4 left, 8 right."""
    axes = []
    for side, count in zip(size, out):
        at = stride * torch.arange(count) - 1
        axes.append((at < 0).long() + 2 * (at + 3 > side).long())
    return axes[0][:, None] + 4 * axes[1][None]


class Types:
    """`half` for what autocast computes in half precision, `float` for what it does not.

    Each operation takes its switches and the shape of its output, `op["out"]`.
    """

    def __init__(self, half, float):
        self.half, self.float = half, float

    def patchify(self, op, inputs, matrices, vectors):
        (_, h, w, _), p = op["out"], op["patch"]
        x = resize(first(inputs[0]).to(self.float) / 255, (h * p, w * p), False)
        mean, std = (torch.tensor(v, dtype=torch.float32).to(self.float).view(3, 1, 1) for v in (MEAN, STD))
        x = last(((x - mean) / std).to(self.half))
        return x.reshape(len(x), h, p, w, p, 3).permute(0, 1, 3, 2, 4, 5)

    def cut_windows(self, op, inputs, matrices, vectors):
        (b, h, w, _), p = op["out"], op["patch"]
        photo = first(inputs[0]).to(self.float)[0] / 255
        seen, weights = inputs[1][:, 0].long(), inputs[2][:, 0].to(self.float)
        windows = []
        for seen, weights in zip(seen, weights):
            axes = []
            for part, side in ((slice(0, h * p), photo.shape[1]), (slice(h * p, None), photo.shape[2])):
                axis = torch.zeros(len(seen[part]), side, dtype=self.float)
                axes.append(axis.scatter_add_(1, seen[part], weights[part]))
            windows.append(axes[0] @ photo @ axes[1].T)
        mean, std = (torch.tensor(v, dtype=torch.float32).to(self.float).view(3, 1, 1) for v in (MEAN, STD))
        x = last(((torch.stack(windows) - mean) / std).to(self.half))
        return x.reshape(b, h, p, w, p, 3).permute(0, 1, 3, 2, 4, 5)

    def add_positions(self, op, inputs, matrices, vectors):
        tokens, (h, w), side, dim = inputs[0][:, 0].to(self.float), op["grid"], op["side"], op["out"][-1]
        positions = vectors[1].to(self.float).view(-1, dim)
        grid = resize(first(positions[1:].view(1, side, side, dim)), (h, w), False)
        rows = torch.cat([positions[:1], last(grid).reshape(h * w, dim)])
        tokens = torch.cat([vectors[0].to(self.float).expand(len(tokens), 1, dim), tokens[:, 1:]], 1)
        return tokens + rows

    def gemm(self, op, inputs, matrices, vectors):
        at, to, rows = op["first"], op["to"], op["rows"]
        bias = vectors[0].to(self.half) if vectors else None
        x = inputs[0][:, 0, at : at + rows].to(self.half)
        y = F.linear(x, matrices[0].to(self.half), bias)
        for add in inputs[1:]:
            rows_of = add[:, 0, to : to + rows] if op["adds_rows"] else add[:, 0]
            y = y.to(self.float) + rows_of.to(self.float)
        y = FUNCTIONS[op["func"]](y)
        return y.to(self.float if op["out_is_float"] else self.half)

    def gemm_norm(self, op, inputs, matrices, vectors):
        y = F.linear(inputs[0].to(self.half), matrices[0].to(self.half), vectors[0].to(self.half))
        stream = y.to(self.float) + inputs[1].to(self.float)
        return self.layer_norm(op, [stream], [], vectors[1:]) if op["is_norm"] else stream

    def layer_norm(self, op, inputs, matrices, vectors):
        weight, bias = (v.to(self.float) for v in vectors)
        eps = torch.tensor(1e-6, dtype=torch.float32).item()
        return F.layer_norm(inputs[0].to(self.float), weight.shape, weight, bias, eps).to(self.half)

    def attention(self, op, inputs, matrices, vectors):
        qkv = inputs[0][:, 0].to(self.half)
        b, t, _ = qkv.shape
        q, k, v = qkv.view(b, t, 3, op["heads"], -1).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, is_causal=op["causal"]).transpose(1, 2)

    def conv(self, op, inputs, matrices, vectors):
        x, kernel = first(inputs[0]).to(self.half), op["kernel"]
        weight = first(matrices[0].to(self.half).view(op["out"][-1], kernel, kernel, -1))
        bias = vectors[0].to(self.half) if vectors else None
        bordered = bias is not None and len(bias) != op["out"][-1]
        y = F.conv2d(F.relu(x) if op["relu_in"] else x, weight, None if bordered else bias, op["stride"], op["pad"])
        if bordered:
            y = y + first(bias.view(16, -1)[border(x.shape[2:], y.shape[2:], op["stride"])][None])
        for add in inputs[1:]:
            y = y + first(add).to(self.half)
        return last(FUNCTIONS[op["func"]](y))

    def readout(self, op, inputs, matrices, vectors):
        i = op["level"]
        tokens, (patch, without) = inputs[i][:, 0], (m.to(self.half) for m in matrices[2 * i : 2 * i + 2])
        class_part = F.linear(tokens[:, :1].to(self.half), without, vectors[i].to(self.half)).to(self.float)
        y = F.linear(tokens[:, 1:].to(self.half), patch).to(self.float) + class_part
        return F.gelu(y).to(self.half)

    def polyphase(self, op, inputs, matrices, vectors):
        """Each phase as a convolution of its own, the bias by the border a map that is added."""
        x, s, (b, _, _, outputs) = first(inputs[0]).to(self.half), op["stride"], op["out"]
        (_, inputs_, h, w), out = x.shape, torch.empty(op["out"], dtype=self.half)
        weights, biases = matrices[0].to(self.half).flatten(), vectors[0].to(self.half).view(s, s, 4, outputs)
        window = lambda phase: (2 if phase in (0, s - 1) else 1, phase == 0, phase == s - 1)
        for py in range(s):
            for px in range(s):
                (rows, above, below), (columns, left, right) = window(py), window(px)
                own, weights = weights.split([rows * columns * outputs * inputs_, weights.numel() - rows * columns * outputs * inputs_])
                filters = first(own.view(outputs, rows, columns, inputs_))
                padded = F.pad(x, (int(left), int(right), int(above), int(below)))
                border = torch.zeros(h, w, dtype=torch.long)
                border[0 if above else -1] += rows - 1
                border[:, 0 if left else -1] += 2 * (columns - 1)
                out[:, py::s, px::s] = last(F.conv2d(padded, filters)) + biases[py, px][border]
        return out

    def upsample(self, op, inputs, matrices, vectors):
        kind = self.float if op["float"] else self.half
        return last(resize(first(inputs[0]).to(kind), op["out"][1:3], True))

    def max_pool(self, op, inputs, matrices, vectors):
        return last(F.max_pool2d(first(inputs[0]).to(self.half), 3, 2, 1))

    def embed_tokens(self, op, inputs, matrices, vectors):
        ids, (_, _, tokens, width) = inputs[0][:, 0, :, 0].long(), op["out"]
        rows = matrices[0].to(self.half)[ids].to(self.float)
        return rows + vectors[0].to(self.float).view(-1, width)[:tokens]

    def take_rows(self, op, inputs, matrices, vectors):
        return inputs[0][torch.arange(len(inputs[0])), 0, inputs[1].long().view(-1)].to(self.float)

    def sample(self, op, inputs, matrices, vectors):
        (_, h, w, _), (ph, pw) = inputs[0].shape, op["photo"]
        photo = resize(resize(first(inputs[0]).to(self.half), (2 * h, 2 * w), True), (ph, pw), False)
        points = inputs[1][:, 0].to(self.float)
        x, y = points[..., 0].clamp(0, pw - 1), points[..., 1].clamp(0, ph - 1)
        x0, y0 = x.floor().long(), y.floor().long()
        x1, y1 = (x0 + 1).clamp(max=pw - 1), (y0 + 1).clamp(max=ph - 1)
        tx, ty = (x - x0)[..., None], (y - y0)[..., None]
        item = torch.arange(len(photo))[:, None]
        at = lambda y, x: last(photo)[item, y, x].to(self.float)
        above, below = at(y0, x0) * (1 - tx) + at(y0, x1) * tx, at(y1, x0) * (1 - tx) + at(y1, x1) * tx
        return (above * (1 - ty) + below * ty).to(self.half)

    def similarity(self, op, inputs, matrices, vectors):
        size = op["out"][1:3]
        scores = last(resize(first(inputs[0]).to(self.float), size, True))
        norm = last(resize(first(inputs[1]).to(self.half), size, True))
        rest = torch.tensor(op["rest"], dtype=torch.float32).to(self.float)
        length = (norm.to(self.float).square().sum(-1, keepdim=True) + rest).sqrt()
        return torch.where(length == 0, 0, op["factor"] * scores.to(self.float) / length)

    def regularise(self, op, inputs, matrices, vectors):
        x, kernel = first(inputs[0]).to(self.float), vectors[0].to(self.float)
        b, n, h, w = x.shape
        y = F.conv2d(x.view(b * n, 1, h, w), kernel[:9].view(1, 1, 3, 3), kernel[9:], padding=1).view(b, n, h, w)
        if op["bottleneck"]:
            y = y + x.amax(1, keepdim=True)
        return last(FUNCTIONS[op["activation"]](y))

    def upsample_scores(self, op, inputs, matrices, vectors):
        _, h, w, _ = inputs[0].shape
        return resize(first(inputs[0]).to(self.float), (2 * h, 2 * w), True)

    def argmax(self, op, inputs, matrices, vectors):
        if not op["resized"]:
            return inputs[0].to(self.float).amax(3)
        return resize(self.upsample_scores(op, inputs, matrices, vectors), op["out"][1:3], False).amax(1)

    def overlay(self, op, inputs, matrices, vectors):
        photo, palette, mask = (values.int() for values in inputs)
        weight = palette[0, 0, 0, 3]
        # Behind the palette is the number of no label, whose pixels stay.
        is_labelled = mask < len(palette[0, 0])
        colours = palette[0, 0][torch.where(is_labelled, mask, 0)[..., 0], :3]
        return torch.where(is_labelled, ((128 - weight) * photo + weight * colours) // 128, photo)


def errors(got, expected):
    """As `Errors` of tests/cuda/bounds.rs."""
    assert torch.equal(got.isnan(), expected.isnan())
    numbers = ~expected.isnan()
    if not numbers.any():
        return dict.fromkeys(("max", "rms", "relative_max", "relative_rms"), 0.0)
    value, error = expected[numbers], (got[numbers] - expected[numbers]).abs()
    size = value.abs()
    typical = size.sort().values[len(size) // 2] if len(size) else 0.0
    relative = torch.where(error == 0, 0, error / (size + typical))
    rms = lambda x: x.square().mean().sqrt().item()
    return {
        "max": error.max().item(),
        "rms": rms(error),
        "relative_max": relative.max().item(),
        "relative_rms": rms(relative),
    }


def main(folder):
    table = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        group = lambda prefix: [tensors[key] for key in sorted(tensors) if re.fullmatch(prefix + r"\d", key)]
        data = group("input"), group("matrix"), group("vector")
        case = json.loads(path.with_suffix(".json").read_text())
        name, op = case["name"], case["switches"] | {"out": case["out"]}
        # A photo of another format, which ends the name, or a conversion of one: PyTorch has RGB alone.
        if not hasattr(Types, case["op"]) or (case["op"] == "patchify" and re.search(r"-patch\d+-", name)):
            continue
        expected = tensors["expected"]
        run = lambda half, float: getattr(Types(half, float), case["op"])(op, *data).double().flatten()
        plain = errors(run(torch.float64, torch.float64), expected)
        scale = expected.nan_to_num().abs().max().item()
        assert plain["max"] <= 1e-6 * max(scale, 1.0), (name, plain, scale)
        table[name] = {key: float(f"{value:.4g}") for key, value in errors(run(torch.float16, torch.float32), expected).items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in table.items())
    Path(__file__).with_name("half_errors.json").write_text("{\n" + lines + "\n}\n")
    print(f"{len(table)} cases")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(sys.argv[1])
