"""PyTorch's side of the race on a GPU: network, weights, photo and labels of `lseg-fast bench frame`, in half precision.

    torch_lseg.py prepare --dir D [--small] [--bin lseg-fast]   model.ckpt, photo.ppm, labels.txt: seeded, no network needed
    torch_lseg.py warm --dir D --compile-cache C                compiles in the background beforehand, for serve
    torch_lseg.py serve --dir D --text T.npy --compile-cache C  measures rounds at the driver's word
    torch_lseg.py agree --dir D --text T.npy --scores S.npy     lseg-fast's scores against PyTorch's in float32; exit code 1
    torch_lseg.py rates                                         microseconds of single operations of cuDNN and PyTorch

T.npy is what `lseg-fast text` writes, S.npy what `lseg-fast run --save scores --size native` writes. On stdout JSON alone, one
object a line; progress on stderr. A command that fails ends with {"ok": false, "why": why} and exit code 1; without PyTorch it
is {"absent": why} and 3.

`serve` prints {"ready": true, ...}, then answers every line `round WHO WHAT WARM_SECONDS FRAMES` of stdin with one line until
stdin ends. A frame is: RGB bytes in the caller's memory → pinned memory → GPU → normalise → network → scores at the photo's
size → argmax → u8 mask → pinned memory → the caller's memory (WHAT = mask), or to the embeddings at half the photo's size, left
on the GPU (WHAT = embed). WHO is

    eager        op by op
    graph        the same, captured once in a CUDA graph with both copies
    compile      torch.compile, captured likewise
    compile-max  torch.compile's max-autotune, captured likewise; only where `warm` has finished it

What makes it fast, beyond float16, NHWC and scaled_dot_product_attention: batch norm folded into the convolutions, cuDNN's
algorithm search, the faster of the attention backends, and three forms of the network (FORMS), of which the fastest is taken
for each WHO and WHAT by trial. Every answer names its form and the times of the others.
"""

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
if not (HERE / "lseg_reference.py").exists():  # in the repository; in a bundle they lie beside this file
    sys.path.append(str(HERE.parents[1] / "tests" / "golden"))

from full_size_case import CONFIG, FLOAT16, LABELS, SEED  # noqa: E402

WHO = ("eager", "graph", "compile", "compile-max")
WHAT = ("mask", "embed")
MODES = {"compile": "default", "compile-max": "max-autotune-no-cudagraphs"}
# published: operations in the published order.
# rewritten: equal but for rounding: patches, 1×1 and transposed convolutions as products; the class token's part of a readout
#            once, not at every patch; `out_conv` before the upsampling.
# folded: moreover head1 and the last out_conv are one matrix before the upsampling; for masks its triangular factor, which
#         gives the same lengths in fewer channels, with the labels' products beside it. This is lseg-fast's own algebra.
FORMS = ("folded", "rewritten", "published")
# What `warm` compiles, in this order, as long as its time lasts.
WARM = [("compile", "mask", "folded"), ("compile", "embed", "folded"), ("compile", "mask", "published"),
        ("compile-max", "mask", "folded"), ("compile-max", "embed", "folded"), ("compile", "embed", "published"),
        ("compile", "mask", "rewritten"), ("compile", "embed", "rewritten")]  # fmt: skip

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


def note(*words):
    print(*words, file=sys.stderr, flush=True)


@contextlib.contextmanager
def timed(step):
    start = time.perf_counter()
    yield
    note(f"{step}: {time.perf_counter() - start:.2f} s")


def reason(error):
    """An exception in one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:400]


def quantiles(milliseconds):
    import numpy as np

    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {name: round(float(value), 5) for name, value in (("p50", p50), ("p99", p99), ("max", max(milliseconds)))}


# --------------------------------------------------------------------------------------------------- what is made once


@contextlib.contextmanager
def whole(path):
    """A name to write under, which becomes `path` at the end: an interrupted run leaves no half file."""
    part = path.with_name(path.name + ".part")
    yield part
    part.rename(path)


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


# ------------------------------------------------------------------------------------------------------- the reference


def exact_float32():
    """No TF32 anywhere; for float16 it changes nothing."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def load_reference(folder, config, device):
    """The reference model in float32 on the device, mapped from the file on the way."""
    import torch

    import published  # noqa: F401  (the class names in the checkpoint's pickle)
    from lseg_reference import Lseg

    with torch.device("meta"):
        model = Lseg(config)
    state = torch.load(folder / "model.ckpt", map_location="cpu", mmap=True, weights_only=False)["state_dict"]
    model.load_state_dict({key.removeprefix("net."): tensor for key, tensor in state.items()}, assign=True)
    return model.to(device).float().eval().requires_grad_(False)


def reference_outputs(model, photo, text, device):
    """float32 (embeddings [h, w, C], scores [N, H, W]) on the device."""
    import torch

    exact_float32()
    with torch.device(device):  # the reference makes its constants where it runs
        pixels = torch.from_numpy(photo)[None].to(device)
        embedding, _, scores = model.score(model.decode(model.encode(model.normalise(pixels))[1]), text.to(device).float())
    return embedding[0].permute(1, 2, 0), scores[0]


# ----------------------------------------------------------------------------------------------------- the fast network


def define_network():
    """The class, made late: this file must load without PyTorch."""
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    from lseg_reference import LOGIT_SCALE

    def folded(conv, norm):
        """A convolution and the batch norm after it as one (weight, bias) in float32."""
        fused = nn.utils.fuse_conv_bn_eval(conv, norm)
        return fused.weight.detach(), fused.bias.detach()

    def image(x, height, width):
        """Rows [height·width, C] as [1, C, height, width]; the memory is NHWC and stays where it is."""
        return x.view(1, height, width, -1).permute(0, 3, 1, 2)

    def rows(x):
        """The other way."""
        return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])

    def upsampled(x):
        return F.interpolate(x, size=(2 * x.shape[2], 2 * x.shape[3]), mode="bilinear", align_corners=True)

    class Network(nn.Module):
        """`reference` (a float32 Lseg with a ViT and without a head block) for photos of one size and these labels."""

        def __init__(self, reference, text, size, form, dtype, fused_convs):
            super().__init__()
            config = reference.config
            assert config["image"]["kind"] == "vit" and config["head_block"]["kind"] == "none", "not made for this network"
            self.form, self.size, self.features = form, tuple(size), config["features"]
            self.patch, self.heads, self.hooks = (config["image"][name] for name in ("patch", "heads", "hooks"))
            self.grid = (size[0] // self.patch, size[1] // self.patch)
            self.fused_convs = fused_convs and form != "published"
            self.dtype, self.labels = dtype, len(text)
            self.names = []
            self._encoder(reference, config)
            self._decoder(reference)
            self._head(reference, text)

        def keep(self, name, tensor):
            """A constant in the network's type; images' kernels as NHWC."""
            tensor = tensor.detach().to(self.dtype)
            layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
            self.register_buffer(name, tensor.contiguous(memory_format=layout).clone(memory_format=layout))

        def linear(self, name, weight, bias=None):
            self.keep(f"{name}_w", weight)
            if bias is not None:
                self.keep(f"{name}_b", bias)

        def product(self, name, x):
            return F.linear(x, getattr(self, f"{name}_w"), getattr(self, f"{name}_b", None))

        def conv(self, name, x, stride=1, relu=False):
            weight, bias = getattr(self, f"{name}_w"), getattr(self, f"{name}_b", None)
            if relu and self.fused_convs:
                return torch.cudnn_convolution_relu(x, weight, bias, (stride, stride), (1, 1), (1, 1), 1)
            y = F.conv2d(x, weight, bias, stride, weight.shape[2] // 2)
            return F.relu(y) if relu else y

        # -- the encoder

        def _encoder(self, reference, config):
            vit, (h, w) = reference.pretrained.model, self.grid
            mean, std = (torch.tensor(config[name], device=vit.pos_embed.device) for name in ("mean", "std"))
            self.keep("pixel_scale", 1 / (255 * std))
            self.keep("pixel_shift", -mean / std)
            square = vit.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (vit.grid, vit.grid))
            resized = F.interpolate(square, size=(h, w), mode="bilinear", align_corners=False)[0].flatten(1).T
            self.keep("first", vit.cls_token[0] + vit.pos_embed[0, :1])
            proj = vit.patch_embed["proj"]
            if self.form == "published":
                self.linear("patches", proj.weight, proj.bias)
                self.keep("positions", resized)
            else:
                self.keep("patches_w", proj.weight.permute(0, 2, 3, 1).flatten(1))
                self.keep("positions", resized + proj.bias)
            for i, block in enumerate(vit.blocks):
                for name, module in (("norm1", block.norm1), ("qkv", block.attn.qkv), ("proj", block.attn.proj),
                                     ("norm2", block.norm2), ("fc1", block.mlp["fc1"]), ("fc2", block.mlp["fc2"])):  # fmt: skip
                    self.linear(f"block{i}_{name}", module.weight, module.bias)
            dim = config["image"]["dim"]
            self.depth = len(vit.blocks)
            self.resample = []
            for k in range(1, 5):
                post = getattr(reference.pretrained, f"act_postprocess{k}")
                readout = post[0].project[0]
                if self.form == "published":
                    self.linear(f"readout{k}", readout.weight, readout.bias)
                else:
                    self.linear(f"readout{k}", readout.weight[:, :dim])
                    self.linear(f"readout{k}_first", readout.weight[:, dim:], readout.bias)
                self.linear(f"map{k}", post[3].weight.flatten(1), post[3].bias)
                self.resample.append(self._resample(k, post[4]) if len(post) > 4 else None)

        def _resample(self, k, module):
            if isinstance(module, nn.Conv2d):
                self.linear(f"resample{k}", module.weight, module.bias)
                return "down"
            side = module.stride[0]
            if self.form == "published":
                self.linear(f"resample{k}", module.weight, module.bias)
            else:  # stride = kernel: a product with every tap, then the taps to their places
                weight = module.weight.permute(2, 3, 1, 0).flatten(0, 2)
                self.linear(f"resample{k}", weight, module.bias.repeat(side * side))
            return side

        def tokens(self, photo):
            """uint8 [H, W, 3] → [1 + h·w, dim]."""
            (h, w), p = self.grid, self.patch
            if self.form == "published":
                pixels = photo.permute(2, 0, 1)[None].to(self.dtype)
                pixels = pixels * self.pixel_scale.view(1, 3, 1, 1) + self.pixel_shift.view(1, 3, 1, 1)
                x = rows(F.conv2d(pixels, self.patches_w, self.patches_b, p)) + self.positions
            else:
                pixels = photo.view(h, p, w, p, 3).permute(0, 2, 1, 3, 4).to(self.dtype)
                pixels = torch.addcmul(self.pixel_shift, pixels, self.pixel_scale)
                x = torch.addmm(self.positions, pixels.reshape(h * w, p * p * 3), self.patches_w.t())
            return torch.cat([self.first, x])

        def norm(self, name, x):
            return F.layer_norm(x, x.shape[-1:], getattr(self, f"{name}_w"), getattr(self, f"{name}_b"), 1e-6)

        def block(self, name, x):
            tokens, dim = x.shape
            qkv = self.product(f"{name}_qkv", self.norm(f"{name}_norm1", x))
            q, k, v = qkv.view(1, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
            heard = F.scaled_dot_product_attention(q, k, v)
            x = x + self.product(f"{name}_proj", heard.transpose(1, 2).reshape(tokens, dim))
            hidden = F.gelu(self.product(f"{name}_fc1", self.norm(f"{name}_norm2", x)))
            return x + self.product(f"{name}_fc2", hidden)

        def hook(self, k, x):
            """A hook's tokens → its map [1, C, ...]."""
            h, w = self.grid
            if self.form == "published":
                x = torch.cat([x[1:], x[:1].expand(h * w, -1)], -1)
                x = self.product(f"readout{k}", x)
            else:
                x = F.linear(x[1:], getattr(self, f"readout{k}_w"), self.product(f"readout{k}_first", x[0]))
            x = self.product(f"map{k}", F.gelu(x))
            side = self.resample[k - 1]
            if side == "down":
                return self.conv(f"resample{k}", image(x, h, w), 2)
            if side is None:
                return image(x, h, w)
            if self.form == "published":
                weight, bias = getattr(self, f"resample{k}_w"), getattr(self, f"resample{k}_b")
                return F.conv_transpose2d(image(x, h, w), weight, bias, side)
            taps = self.product(f"resample{k}", x).view(h, w, side, side, -1)
            return image(taps.permute(0, 2, 1, 3, 4).reshape(h * side * w * side, -1), h * side, w * side)

        # -- the decoder

        def _decoder(self, reference):
            scratch = reference.scratch
            for k in range(1, 5):
                self.linear(f"rn{k}", getattr(scratch, f"layer{k}_rn").weight)
                refine = getattr(scratch, f"refinenet{k}")
                for unit in (1, 2) if k < 4 else (2,):
                    module = getattr(refine, f"resConfUnit{unit}")
                    self.linear(f"unit{k}{unit}1", *folded(module.conv1, module.bn1))
                    self.linear(f"unit{k}{unit}2", *folded(module.conv2, module.bn2))
                self.linear(f"out{k}", refine.out_conv.weight.flatten(1), refine.out_conv.bias)

        def unit(self, name, x):
            return x + self.conv(f"{name}2", self.conv(f"{name}1", F.relu(x), relu=True))

        def out(self, k, x):
            """Up by two, then the 1×1 convolution; or in the other order, which is the same: bilinear weights sum to one."""
            if self.form == "published":
                x = upsampled(x)
                return image(self.product(f"out{k}", rows(x)), *x.shape[2:])
            return upsampled(image(self.product(f"out{k}", rows(x)), *x.shape[2:]))

        def refined(self, photo):
            """uint8 [H, W, 3] → what the last refinement gives before its upsampling [1, features, H/4, W/4]."""
            x, maps = self.tokens(photo), {}
            for i in range(self.depth):
                x = self.block(f"block{i}", x)
                for k, hook in enumerate(self.hooks, 1):
                    if hook == i:
                        maps[k] = self.conv(f"rn{k}", self.hook(k, x))
            path = self.unit("unit42", maps[4])
            for k in (3, 2, 1):
                path = self.out(k + 1, path) + self.unit(f"unit{k}1", maps[k])
                path = self.unit(f"unit{k}2", path)
            return path

        # -- the head

        def _head(self, reference, text):
            """The labels' rows are brought to a multiple of 8: products with 5 columns have no fast kernel."""
            head, out = reference.scratch.head1, reference.scratch.refinenet1.out_conv
            bank = F.normalize(text.double().to(head.weight.device), dim=1) * LOGIT_SCALE
            bank = F.pad(bank, (0, 0, 0, -len(bank) % 8))
            weight, bias = head.weight.double().flatten(1), head.bias.double()
            if self.form != "folded":
                self.linear("head", weight, bias)
                self.linear("bank", bank)
                return
            # e = W x + b with out_conv in it. W = Q R with orthonormal columns, so |e|² = |R x + Qᵀ b|² + |b − Q Qᵀ b|².
            bias = bias + weight @ out.bias.double()
            weight = weight @ out.weight.double().flatten(1)
            self.linear("head", weight, bias)
            q, r = torch.linalg.qr(weight)
            apart = bias - q @ (q.T @ bias)
            self.register_buffer("apart", apart.square().sum().float())  # a number here would be compiled in
            self.lengths = len(r)
            self.linear("labelled", torch.cat([r, bank @ weight]), torch.cat([q.T @ bias, bank @ bias]))

        def embed(self, photo):
            """uint8 [H, W, 3] → embeddings [H/2, W/2, C], of any length."""
            x = self.refined(photo)
            if self.form == "folded":
                return upsampled(image(self.product("head", rows(x)), *x.shape[2:]))[0].permute(1, 2, 0)
            x = self.out(1, x)
            return self.product("head", rows(x)).view(*x.shape[2:], -1)

        def scores(self, photo):
            """uint8 [H, W, 3] → float32 [1, N, H, W]."""
            if self.form == "folded":
                x = self.refined(photo)
                x = upsampled(image(self.product("labelled", rows(x)), *x.shape[2:]))[0].permute(1, 2, 0)
                towards = x[..., self.lengths : self.lengths + self.labels]
                length = torch.linalg.vector_norm(x[..., : self.lengths], dim=-1, keepdim=True, dtype=torch.float32)
                logits = towards.float() * (length.square() + self.apart).rsqrt()
            else:
                x = self.embed(photo)
                length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
                logits = self.product("bank", x)[..., : self.labels].float() / length
            return upsampled(logits.permute(2, 0, 1)[None].contiguous())

        def mask(self, photo):
            """uint8 [H, W, 3] → uint8 [H, W]."""
            return self.scores(photo)[0].argmax(0).to(torch.uint8)

    return Network


def choose_attention(case, device, cache):
    """Leaves on what is fastest at the network's shape of PyTorch's choice, flash and cuDNN. `warm` notes it for `serve`, whose
    compiled code must be the same. Returns its name."""
    import torch
    import torch.nn.functional as F

    if device != "cuda":
        return "default"
    file = cache / "attention.json" if cache else None
    config, (h, w) = case["config"]["image"], case["size"]
    tokens = 1 + (h // config["patch"]) * (w // config["patch"])
    if file and file.exists():
        chosen = json.loads(file.read_text())["chosen"]
    else:
        qkv = torch.randn(1, tokens, 3, config["heads"], config["dim"] // config["heads"], dtype=torch.half, device=device)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        times = {}
        for name in ("default", "flash", "cudnn"):
            try:
                with attention(name):
                    times[name] = launch_us(partial(F.scaled_dot_product_attention, q, k, v))
            except RuntimeError as error:
                note(f"attention by {name}: {reason(error)}")
        chosen = min(times, key=times.get) if times else "default"
        note("attention, us:", times, "chosen:", chosen)
        if file:
            with whole(file) as part:
                part.write_text(json.dumps({"chosen": chosen, "us": times}))
    limit_attention(chosen)
    return chosen


def limit_attention(name):
    """Limits scaled_dot_product_attention to one backend, "default" to none: a switch of the process, nothing to trace."""
    import torch

    for other in ("flash", "cudnn", "mem_efficient", "math"):
        getattr(torch.backends.cuda, f"enable_{other}_sdp")(name in ("default", other))


@contextlib.contextmanager
def attention(name):
    limit_attention(name)
    try:
        yield
    finally:
        limit_attention("default")


def launch_us(work, launches=20, warm=0.3):
    """Microseconds of one call of `work` in a CUDA graph of many, after a warm-up by time."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = [work() for _ in range(launches)]
    end = time.perf_counter() + warm
    while time.perf_counter() < end:
        graph.replay()
        torch.cuda.synchronize()
    times = []
    for _ in range(15):
        begin, finish = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        finish.record()
        torch.cuda.synchronize()
        times.append(1e3 * begin.elapsed_time(finish) / launches)
    del kept
    return statistics.median(times)


# ---------------------------------------------------------------------------------------------------------- the frames


class Frame:
    """`network` (uint8 [H, W, 3] on the device → mask or embeddings) between two pieces of host memory."""

    def __init__(self, network, photo, what, device, captured):
        import numpy as np
        import torch

        self.network, self.photo, self.what, self.device, self.graph = network, photo, what, device, None
        gpu = device == "cuda"
        self.staged = torch.empty(photo.shape, dtype=torch.uint8, pin_memory=gpu)
        self.on_device = torch.zeros(photo.shape, dtype=torch.uint8, device=device)
        self.brought = torch.empty(photo.shape[:2], dtype=torch.uint8, pin_memory=gpu)
        self.mask = np.empty(photo.shape[:2], np.uint8)
        self.staged_array, self.brought_array = self.staged.numpy(), self.brought.numpy()
        np.copyto(self.staged_array, photo)  # the first calls, which search algorithms, see a photo
        if gpu:
            self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if captured:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):  # compilation, cuDNN's search and cuBLAS's workspace come before
                    self.work()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.result = self.work()
            self.graph = graph

    def work(self):
        self.on_device.copy_(self.staged, non_blocking=True)
        result = self.network(self.on_device)
        if self.what == "mask":
            self.brought.copy_(result, non_blocking=True)
        return result

    def run(self):
        """One frame: milliseconds by the GPU's clock (None without one) and by the host's."""
        import numpy as np
        import torch

        gpu = self.device == "cuda"
        start = time.perf_counter()
        np.copyto(self.staged_array, self.photo)
        if gpu:
            self.begin.record()
        if self.graph is None:
            self.result = self.work()
        else:
            self.graph.replay()
        if gpu:
            self.end.record()
            torch.cuda.synchronize()
        if self.what == "mask":
            np.copyto(self.mask, self.brought_array)
        host = 1e3 * (time.perf_counter() - start)
        return (self.begin.elapsed_time(self.end) if gpu else None), host

    def spoil(self):
        """Puts wrong values where results go: what is right afterwards has been computed since."""
        self.brought.fill_(255)
        self.mask.fill(255)
        if self.graph is not None:
            self.result.fill_(0)

    def warm(self, seconds):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.run()

    def trial(self):
        """Median milliseconds of a few frames, by the GPU's clock where there is one; a rehearsal on the CPU is brief."""
        gpu = self.device == "cuda"
        self.warm(0.25 if gpu else 0.01)
        times = [self.run() for _ in range(20 if gpu else 3)]
        return statistics.median(host if gpu is None else gpu for gpu, host in times)


class Contenders:
    """Every WHO and WHAT, made when first asked for."""

    def __init__(self, reference, case, text, photo, device, cache):
        import torch

        self.reference, self.case, self.text, self.photo, self.device, self.cache = reference, case, text, photo, device, cache
        self.networks, self.frames, self.classes = {}, {}, define_network()
        torch.backends.cudnn.benchmark = True
        exact_float32()  # in `warm` as in `serve`: these switches are in the compile cache's key
        self.attention = choose_attention(case, device, cache)

    def network(self, form, compiled):
        """cuDNN's convolution with bias and ReLU in one is for op-by-op networks; Inductor fuses for itself."""
        key = (form, compiled)
        if key not in self.networks:
            import torch

            make = partial(self.classes, self.reference, self.text, self.case["size"], form, torch.half)
            self.networks[key] = make(self.device == "cuda" and not compiled)
            if self.networks[key].fused_convs:
                try:
                    self.networks[key].mask(torch.from_numpy(self.photo).to(self.device))
                except (RuntimeError, AttributeError) as error:
                    note(f"no fused convolutions: {reason(error)}")
                    self.networks[key].fused_convs = False
        return self.networks[key]

    def frame(self, who, what, form):
        import torch

        work = getattr(self.network(form, who in MODES), what)
        if who in MODES:
            mode = MODES[who]
            work = torch.compile(work, fullgraph=True, dynamic=False, mode=None if mode == "default" else mode)
        return Frame(work, self.photo, what, self.device, self.device == "cuda" and who != "eager")

    def forms(self, who, what):
        """The forms to try; for compiled ones the fastest that `warm` has seen. Raises Absent."""
        if who not in MODES:
            return FORMS
        ready = ready_forms(self.cache, who, what)
        if ready:
            return (min(ready, key=ready.get),)
        if who == "compile-max":
            raise Absent("no max-autotune that `warm` had finished")
        if self.cache:
            raise Absent("`warm` has not finished it yet")
        return FORMS[:1]

    def get(self, who, what):
        """A dict: the frame, its form, the forms' times, seconds of the setup."""
        if who not in WHO or what not in WHAT:
            raise Absent(f"WHO is one of {', '.join(WHO)}, WHAT one of {', '.join(WHAT)}")
        if who == "graph" and self.device != "cuda":
            raise Absent("no CUDA")
        if (who, what) not in self.frames:
            start = time.perf_counter()
            made = {form: self.frame(who, what, form) for form in self.forms(who, what)}
            trials = {form: frame.trial() for form, frame in made.items()}
            form = min(trials, key=trials.get)
            times = ready_forms(self.cache, who, what) | trials if who in MODES else trials
            self.frames[who, what] = {
                "frame": made[form], "form": form, "forms_ms": {f: round(ms, 4) for f, ms in times.items()},
                "setup_s": round(time.perf_counter() - start, 2),
            }  # fmt: skip
            note(f"{who} {what}: {self.frames[who, what]['setup_s']} s, {times}", cache_use() if who in MODES else "")
        return self.frames[who, what]


class Absent(Exception):
    """A contender that cannot be measured, and why."""


def ready_forms(cache, who, what):
    """What `warm` has compiled: milliseconds of each form."""
    file = cache / "ready.json" if cache else None
    if not file or not file.exists():
        return {}
    return json.loads(file.read_text()).get(f"{who}/{what}", {})


# ------------------------------------------------------------------------------------------------------------ commands


def serve(args, say):
    import numpy as np
    import torch

    start = time.perf_counter()
    case, photo = read_case(args), read_photo(args.dir)
    text = torch.from_numpy(np.load(args.text)).float()
    with torch.inference_mode():
        with timed("weights"):
            reference = load_reference(args.dir, case["config"], args.device)
        with timed("scores in float32"):
            embedding, scores = reference_outputs(reference, photo, text, args.device)
            right = {"mask": scores.argmax(0), "embed": embedding}
        case = case | {"size": list(photo.shape[:2])}
        contenders = Contenders(reference, case, text, photo, args.device, args.compile_cache)
        for who in filter(None, args.setup.split(",")):
            for what in WHAT:
                try:
                    contenders.get(who, what)
                except Exception as error:
                    note(f"{who} {what}: {reason(error)}")
        say(about(args.device) | {"ready": True, "who": list(WHO), "attention": contenders.attention,
                                  "seconds": round(time.perf_counter() - start, 2)})  # fmt: skip
        for line in sys.stdin:
            words = line.split()
            if not words:
                continue
            who, what = (words[1:3] + [None, None])[:2]
            try:
                order, _, _, warm, frames = words
                assert order == "round", "expected: round WHO WHAT WARM_SECONDS FRAMES"
                say({"who": who, "what": what} | measure(contenders, right, who, what, float(warm), int(frames)))
            except Absent as why:
                say({"who": who, "what": what, "absent": str(why)})
            except Exception as error:  # a contender that fails is absent; the others go on
                note(f"{line.strip()}: {reason(error)}")
                say({"who": who, "what": what, "absent": reason(error)})


def measure(contenders, right, who, what, warm, frames):
    got = contenders.get(who, what)
    frame = got["frame"]
    if "agrees" not in got:
        frame.spoil()
        frame.run()
        got["agrees"] = agreement(frame, right[what])
    gc.collect()
    gc.disable()
    try:
        frame.warm(warm)
        times = [frame.run() for _ in range(max(frames, 1))]
        mhz = sm_mhz(contenders.device)
    finally:
        gc.enable()
    gpu, host = zip(*times)
    answer = {"gpu": None if gpu[0] is None else quantiles(gpu), "host": quantiles(host), "n": len(times), "sm_mhz": mhz}
    known = {name: got[name] for name in ("agrees", "form", "forms_ms", "setup_s")}
    return answer | known | {"attention": contenders.attention}


def agreement(frame, right):
    """Share of the mask's pixels that equal float32's; for embeddings the mean cosine with float32's."""
    import torch
    import torch.nn.functional as F

    if frame.what == "mask":
        return round(float((torch.from_numpy(frame.mask).to(right.device) == right).double().mean()), 6)
    return round(float(F.cosine_similarity(frame.result.float(), right, dim=-1).double().mean()), 6)


def sm_mhz(device):
    if device != "cuda":
        return None
    try:
        import torch

        return torch.cuda.clock_rate()
    except Exception:  # pynvml is not PyTorch's own
        return None


def about(device):
    import torch

    gpu = device == "cuda"
    name = torch.cuda.get_device_name() if gpu else "cpu"
    return {"device": name, "torch": torch.__version__, "cudnn": torch.backends.cudnn.version() if gpu else None}


def warm(args, say):
    """Compiles WARM's list, each noted in C/ready.json with its time once it has run, so that `serve` finds it in the cache.
    The weights are random: compiled code does not hold them, and nothing has to be waited for."""
    import torch

    from lseg_reference import Lseg

    begin = time.perf_counter()
    case = read_case(args)
    with torch.inference_mode():
        with torch.device("meta"):
            reference = Lseg(case["config"])
        reference = reference.to_empty(device=args.device).requires_grad_(False)
        for name, tensor in (*reference.named_parameters(), *reference.named_buffers()):
            tensor.fill_(1) if "bn" in name else tensor.normal_(0, 0.02) if tensor.is_floating_point() else tensor.zero_()
        text = torch.randn(len(case["labels"]), case["config"]["embed_dim"])
        photo = torch.randint(0, 256, (*case["size"], 3), dtype=torch.uint8).numpy()
        contenders = Contenders(reference, case, text, photo, args.device, args.compile_cache)
        for who, what, form in WARM:
            if time.perf_counter() - begin > args.budget:
                note("the time is up")
                break
            if form in ready_forms(args.compile_cache, who, what):
                continue
            start = time.perf_counter()
            try:
                torch.compiler.reset()
                milliseconds = contenders.frame(who, what, form).trial()
            except Exception as error:
                say({"who": who, "what": what, "form": form, "absent": reason(error)})
                continue
            mark_ready(args.compile_cache, f"{who}/{what}", form, milliseconds)
            say({"who": who, "what": what, "form": form, "ms": round(milliseconds, 4), "cache": cache_use(),
                 "s": round(time.perf_counter() - start, 2)})  # fmt: skip


def mark_ready(cache, name, form, milliseconds):
    file = cache / "ready.json"
    ready = json.loads(file.read_text()) if file.exists() else {}
    ready.setdefault(name, {})[form] = round(milliseconds, 4)
    with whole(file) as part:
        part.write_text(json.dumps(ready))


def cache_use():
    from torch._dynamo.utils import counters

    return {name: counters["inductor"][f"fxgraph_cache_{name}"] for name in ("hit", "miss", "bypass")}


def agree(args, say):
    """Text features are PyTorch's own where `prepare` has left them: then nothing of lseg-fast is in the reference."""
    import numpy as np
    import torch

    case, photo = read_case(args), read_photo(args.dir)
    ours, got = np.load(args.scores), torch.from_numpy(np.load(args.text)).float()
    own = args.dir / "text_reference.npy"
    text = torch.from_numpy(np.load(own)).float() if own.exists() else got
    with torch.inference_mode():
        reference = load_reference(args.dir, case["config"], args.device)
        scores = reference_outputs(reference, photo, text, args.device)[1].cpu().numpy()
        network = define_network()(reference, text, photo.shape[:2], "published", torch.half, False)
        half = network.scores(torch.from_numpy(photo).to(args.device))[0].float().cpu().numpy()
        unit = text / text.norm(dim=1, keepdim=True)
        text_error = float((got - unit).abs().max() / unit.abs().max()) if own.exists() else None
    result, most = compare(scores, ours), dict(zip(("error", "decisive", "agreement_decided"), FLOAT16))
    ok = result["error"] is not None and result["error"] <= most["error"]
    ok = ok and result["agreement_decided"] >= most["agreement_decided"]
    beside = {"pytorch_half": compare(scores, half), "text_error": text_error, "limits": most, "ok": ok}
    say(about(args.device) | result | beside)
    return 0 if ok else 1


def compare(reference, got):
    """tests/golden/full_size.py's: the largest error over the reference's range, and how the masks agree."""
    import numpy as np

    assert got.shape == reference.shape and got.dtype == np.float32, f"{got.shape} {got.dtype} for {reference.shape}"
    span = float(reference.max() - reference.min())
    second, best = np.sort(reference, axis=0)[-2:]
    decided = best - second > FLOAT16[1] * span
    same = got.argmax(0) == reference.argmax(0)
    error = float(np.abs(got - reference).max()) / span if np.isfinite(got).all() else None  # JSON has no infinity
    return {"error": error, "agreement": float(same.mean()), "agreement_decided": float(same[decided].mean()),
            "decided": float(decided.mean())}  # fmt: skip


def rates(args, say):
    import torch
    import torch.nn.functional as F

    if args.device != "cuda":
        say({"absent": "no CUDA"})
        return
    torch.backends.cudnn.benchmark = True
    say(about(args.device))
    half = partial(torch.randn, dtype=torch.half, device="cuda")
    q, k, v = half(1, 901, 3, 16, 64).permute(2, 0, 3, 1, 4).unbind(0)
    x, weight, bias = half(901, 1024), half(1024), half(1024)
    cases = [("sdpa 901x16x64", name, partial(F.scaled_dot_product_attention, q, k, v)) for name in ("flash", "cudnn")]
    for side, inputs, outputs in ((120, 256, 256), (60, 512, 256), (60, 256, 256), (30, 1024, 256)):
        image, kernel = half(1, inputs, side, side), half(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5
        image, kernel = (t.contiguous(memory_format=torch.channels_last) for t in (image, kernel))
        work = partial(F.conv2d, image, kernel, padding=1)
        cases.append((f"conv3x3 {side}x{side} {inputs}->{outputs}", "cudnn nhwc", work))
    cases.append(("layer_norm 901x1024", "pytorch", partial(F.layer_norm, x, (1024,), weight, bias, 1e-6)))
    with torch.inference_mode():
        for name, backend, work in cases:
            limited = attention(backend) if name.startswith("sdpa") else contextlib.nullcontext()
            try:
                with limited:
                    say({"name": name, "us": round(launch_us(work), 3), "backend": backend})
            except RuntimeError as error:
                say({"name": name, "absent": reason(error), "backend": backend})


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (prepare, warm, serve, agree, rates):
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(run=command)
        sub.add_argument("--json", action="store_true", help="as it always prints")
        sub.add_argument("--threads", type=int, help="PyTorch's CPU threads")
        sub.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is one")
        if command is not rates:
            sub.add_argument("--dir", type=Path, required=True, help="what `prepare` makes")
            sub.add_argument("--small", action="store_true", help="a tiny network, for rehearsals")
        if command is prepare:
            sub.add_argument("--bin", type=Path, help="lseg-fast: its tokenizer must agree")
        if command in (serve, agree):
            sub.add_argument("--text", type=Path, required=True, help="unit vectors [labels, C] of lseg-fast text")
        if command is agree:
            sub.add_argument("--scores", type=Path, required=True, help="of lseg-fast run --save scores")
        if command in (serve, warm):
            sub.add_argument("--compile-cache", type=Path, required=command is warm, help="kept between warm and serve")
        if command is serve:
            sub.add_argument("--setup", default="", help="contenders made before `ready`, such as eager,graph")
        if command is warm:
            sub.add_argument("--budget", type=float, default=300, help="seconds after which nothing new is begun")
    return parser.parse_args()


def main():
    args = arguments()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr

    def say(record):
        print(json.dumps(record), file=out, flush=True)

    cache = getattr(args, "compile_cache", None)
    if cache:
        args.compile_cache = cache = cache.resolve()
        cache.mkdir(parents=True, exist_ok=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
        os.environ["TRITON_CACHE_DIR"] = str(cache / "triton")
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: its libraries do not load
        say({"absent": f"no PyTorch: {reason(error)}"})
        return 3
    if args.device is None:
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        return args.run(args, say)
    except Exception as error:
        traceback.print_exc()
        say({"ok": False, "why": reason(error)})
        return 1


if __name__ == "__main__":
    sys.exit(main())
