"""Makes tests/golden/checkpoint/*: small files as PyTorch and Lightning really write them.

    python tests/golden/checkpoint_fixtures.py

Needs PyTorch 2 (CPU). The tests that read the files are tests/it/convert.rs and those of crates/torch-file.
"""

import argparse
import os
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch

OUT = Path(__file__).parent / "checkpoint"
# What a file's code would do if a reader ran it.
MARKER = "lseg_fast_executed_a_checkpoint"


def foreign_class(module: str, name: str, base: type = object) -> type:
    """A class of a package that is not installed, importable for pickle's own check."""
    parts = module.split(".")
    for i in range(len(parts)):
        path = ".".join(parts[: i + 1])
        sys.modules.setdefault(path, types.ModuleType(path))
    cls = type(name, (base,), {"__module__": module})
    setattr(sys.modules[module], name, cls)
    return cls


ModelCheckpoint = foreign_class("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
AttributeDict = foreign_class("pytorch_lightning.utilities.parsing", "AttributeDict", dict)


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {MARKER}",)


def ramp(*shape: int, dtype=torch.float32, step: float = 1.0, start: float = 0.0) -> torch.Tensor:
    """start, start + step, ... in row-major order."""
    count = int(torch.tensor(shape).prod()) if shape else 1
    return (start + step * torch.arange(count, dtype=torch.float64)).reshape(shape).to(dtype)


def formats() -> dict:
    """One tensor of every kind that a state dict may hold. The values are in the tests of crates/torch-file."""
    shared = ramp(24)
    return {
        "f32": ramp(2, 3, step=0.5),
        "f16": ramp(5, dtype=torch.float16, step=0.25),
        "bf16": ramp(5, dtype=torch.bfloat16, start=-2),
        "f64": ramp(2, 2, dtype=torch.float64, step=0.125),
        "i64": torch.tensor([3, -4]),
        "u16": torch.tensor([1, 65535], dtype=torch.uint16),
        "bool": torch.tensor([True, False]),
        "complex": torch.zeros(2, dtype=torch.complex128),
        "scalar": torch.tensor(7.0),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(ramp(4)),
        "transposed": ramp(3, 4).t(),
        "transposed_f16": ramp(3, 4, dtype=torch.float16).t(),
        "permuted": ramp(2, 3, 4).permute(2, 0, 1),
        "every_other": ramp(20)[1::2],
        "expanded": ramp(2, 1).expand(2, 3),
        "shared_a": shared[:6],
        "shared_b": shared[6:].reshape(2, 9)[:, 2:5],
        "note": "no tensor",
    }


class Tiny(OrderedDict):
    """A small LSeg's state dict in the published checkpoint's names, unused tensors included.

    Large tensors repeat a few values (stride 0), so that the files stay small.
    """

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(2)
        self.batches = torch.tensor(5)

    def add(self, name, *shape, dtype=torch.float32):
        count = 1
        for n in shape:
            count *= n
        drawn = (shape[-1],) if count > 300 else shape
        self[name] = torch.randn(drawn, generator=self.generator).to(dtype).expand(shape)

    def layer(self, name, *shape, dtype=torch.float32):
        self.add(name + ".weight", *shape, dtype=dtype)
        self.add(name + ".bias", shape[0], dtype=dtype)

    def norm(self, name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.add(f"{name}.{part}", channels)
        self[f"{name}.num_batches_tracked"] = self.batches

    def text(self, width=64, layers=1, vocab=514, mlp=8, context=7, channels=8):
        half = torch.float16
        root = "clip_pretrained."
        self.add(root + "positional_embedding", context, width, dtype=half)
        self.add(root + "text_projection", width, channels, dtype=half)
        self[root + "logit_scale"] = torch.tensor(4.6)
        self.add(root + "visual.conv1.weight", 4, 3, 2, 2, dtype=half)
        self.add(root + "visual.ln_post.bias", 4, dtype=half)
        for i in range(layers):
            block = f"{root}transformer.resblocks.{i}."
            self.add(block + "attn.in_proj_weight", 3 * width, width, dtype=half)
            self.add(block + "attn.in_proj_bias", 3 * width, dtype=half)
            self.layer(block + "attn.out_proj", width, width, dtype=half)
            self.layer(block + "ln_1", width, dtype=half)
            self.layer(block + "mlp.c_fc", mlp, width, dtype=half)
            self.layer(block + "mlp.c_proj", width, mlp, dtype=half)
            self.layer(block + "ln_2", width, dtype=half)
        self.add(root + "token_embedding.weight", vocab, width, dtype=half)
        self.layer(root + "ln_final", width, dtype=half)

    def resnet(self, stem, planes):
        self.add("pretrained.layer1.0.weight", stem, 3, 7, 7)
        self.norm("pretrained.layer1.1", stem)
        channels = stem
        for k, p in enumerate(planes):
            block = "pretrained.layer1.4.0." if k == 0 else f"pretrained.layer{k + 1}.0."
            self.add(block + "conv1.weight", p, channels, 1, 1)
            self.norm(block + "bn1", p)
            self.add(block + "conv2.weight", p, p, 3, 3)
            self.norm(block + "bn2", p)
            self.add(block + "conv3.weight", 4 * p, p, 1, 1)
            self.norm(block + "bn3", 4 * p)
            self.add(block + "downsample.0.weight", 4 * p, channels, 1, 1)
            self.norm(block + "downsample.1", 4 * p)
            channels = 4 * p

    def vit(self, channels, dim=64, depth=4, patch=16, mlp=8, grid=2):
        root = "pretrained.model."
        self.add(root + "cls_token", 1, 1, dim)
        self.add(root + "pos_embed", 1, grid * grid + 1, dim)
        self.layer(root + "patch_embed.proj", dim, 3, patch, patch)
        for i in range(depth):
            block = f"{root}blocks.{i}."
            self.layer(block + "norm1", dim)
            self.layer(block + "attn.qkv", 3 * dim, dim)
            self.layer(block + "attn.proj", dim, dim)
            self.layer(block + "norm2", dim)
            self.layer(block + "mlp.fc1", mlp, dim)
            self.layer(block + "mlp.fc2", dim, mlp)
        self.layer(root + "norm", dim)
        self.layer(root + "head", 10, dim)
        for k, c in enumerate(channels):
            hook = f"pretrained.act_postprocess{k + 1}."
            self.layer(hook + "0.project.0", dim, 2 * dim)
            self.layer(hook + "3", c, dim, 1, 1)
            kernel = [4, 2, None, 3][k]
            if kernel:
                self.layer(hook + "4", c, c, kernel, kernel)

    def decoder(self, channels, features=4, out=8):
        for k, c in enumerate(channels):
            self.add(f"scratch.layer{k + 1}_rn.weight", features, c, 3, 3)
        for k in range(1, 5):
            net = f"scratch.refinenet{k}."
            self.layer(net + "out_conv", features, features, 1, 1)
            for unit in (1, 2):
                for i in (1, 2):
                    self.add(f"{net}resConfUnit{unit}.conv{i}.weight", features, features, 3, 3)
                    self.norm(f"{net}resConfUnit{unit}.bn{i}", features)
        self.layer("scratch.head1", out, features, 1, 1)


def tiny_resnet() -> OrderedDict:
    """A ResNet of one block a stage, with a head block."""
    tiny = Tiny()
    tiny.text()
    tiny.resnet(stem=4, planes=[2, 3, 4, 5])
    tiny.decoder(channels=[8, 12, 16, 20])
    tiny.layer("scratch.head_block.depthwise.depthwise", 1, 1, 3, 3)
    return OrderedDict(tiny)


def tiny_vit() -> OrderedDict:
    """A ViT of four blocks, patch 16, without a head block."""
    tiny = Tiny()
    tiny.text()
    tiny.vit(channels=[4, 6, 8, 10])
    tiny.decoder(channels=[4, 6, 8, 10])
    return OrderedDict(tiny)


def lightning(state: OrderedDict, hyper_parameters) -> dict:
    wrapped = OrderedDict((f"net.{name}", tensor) for name, tensor in state.items())
    wrapped._metadata = OrderedDict([("", {"version": 1})])
    return {
        "epoch": 200,
        "global_step": 123456,
        "pytorch-lightning_version": "1.3.0",
        "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.5), "best_model_path": "x.ckpt"}},
        "optimizer_states": [
            {"state": {0: {"step": 3, "momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
        ],
        "lr_schedulers": [{"base_lrs": [1e-3], "_step_count": 2}],
        "state_dict": wrapped,
        "hyper_parameters": hyper_parameters,
    }


def save(name: str, value, **options):
    torch.save(value, OUT / name, **options)


def rezip(name: str, folder: str, entries: dict, method: int = zipfile.ZIP_STORED):
    with zipfile.ZipFile(OUT / name, "w", method) as archive:
        for path, data in entries.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/{path}"), data, method)


def main():
    OUT.mkdir(exist_ok=True)
    save("formats.pt", formats())
    # The old format has no storages of these types.
    old_types = {k: v for k, v in formats().items() if k not in ("u16", "complex")}
    save("formats_legacy.pt", old_types, _use_new_zipfile_serialization=False)
    save("formats_protocol4.pt", OrderedDict(formats()), pickle_protocol=4)
    # As PyTorch 1.6 to 1.12 wrote it: folder "archive", no byteorder, no alignment entries.
    with zipfile.ZipFile(OUT / "formats.pt") as archive:
        entries = {info.filename.split("/", 1)[1]: archive.read(info) for info in archive.infolist()}
    old = {n: data for n, data in entries.items() if n in ("data.pkl", "version") or n.startswith("data/")}
    rezip("formats_old_zip.pt", "archive", old)
    rezip("big_endian.pt", "x", entries | {"byteorder": b"big"})
    rezip("compressed.pt", "x", entries, zipfile.ZIP_DEFLATED)

    options = {"arch_option": 1, "block_depth": 2, "activation": "lrelu", "backbone": "clip_resnet101"}
    state = tiny_resnet()
    save("lightning.ckpt", lightning(state, AttributeDict(options)))
    save("lightning_namespace.ckpt", lightning(formats(), argparse.Namespace(**options)))
    save("state_dict_legacy.pt", state, _use_new_zipfile_serialization=False)
    save("lightning_vit.ckpt", lightning(tiny_vit(), {}), _use_new_zipfile_serialization=False)

    # Parts of that model. As torch.compile names what it compiled, the whole or a part, inside DataParallel:
    part = {n: t for n, t in state.items() if n.startswith(("pretrained.layer1.", "scratch.head1."))}
    named = {n.replace("layer1.", "layer1._orig_mod.").replace("head1.", "_orig_mod.head1."): t for n, t in part.items()}
    save("compiled.pt", {"state_dict": {f"module._orig_mod.net.{name}": tensor for name, tensor in named.items()}})
    # As training scripts without Lightning save; an optimizer's state has tensors too.
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    save("under_model.pt", {"epoch": 3, "optimizer": optimizer, "model": OrderedDict(part)})
    save("under_network_legacy.pt", {"best": 0.5, "network": part}, _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    save("no_crc32.pt", {"state_dict": part})
    torch.serialization.set_crc32_options(True)

    save("evil_beside.ckpt", {"callbacks": {Evil(): 1, "x": Evil()}, "state_dict": {"w": ramp(2), "e": Evil()}})
    save("evil_state_dict.ckpt", {"state_dict": Evil()})
    save("module.pt", torch.nn.Linear(2, 2))
    for path in sorted(OUT.iterdir()):
        print(f"{path.stat().st_size:8} {path.name}")
        assert path.stat().st_size < 100_000, path


if __name__ == "__main__":
    main()
