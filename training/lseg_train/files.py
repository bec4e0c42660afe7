"""Model files: our own with their configuration, published checkpoints (through `lseg-fast convert`), encoders of timm
and torchvision, CLIP's text towers. What is read here may come from strangers: nothing in it is executed, but for a
TorchScript archive, as OpenAI's CLIP files are, which PyTorch loads in its own way."""

import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from . import architecture
from .errors import Refused

CONFIG = "lseg-fast.config"
TEXT = "clip_pretrained."
CONFIG_KEYS = ("image", "reassemble", "features", "text", "embed_dim", "head_block", "mean", "std")


@dataclass
class ModelFile:
    config: dict
    image: dict
    """Tensors by the checkpoint's names, float32."""
    text: dict
    """The text tower's, without their prefix, in the type that the file has."""
    metadata: dict


def program(named):
    """Path of the `lseg-fast` program: as the configuration names it, else in PATH; None where there is none."""
    found = shutil.which(named or "lseg-fast")
    if named and not found:
        raise Refused(f"program = {named!r} is not there or cannot be run; name the lseg-fast program or leave it out")
    return found


def read_tensors(path):
    """(tensors, metadata) of a safetensors file."""
    if not Path(path).is_file():
        raise Refused(f"{path} is not there; a model file is expected")
    try:
        with safe_open(path, "pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise Refused(f"{path} is no safetensors file that can be read ({error})") from None


def read_model(path, lseg_fast=None):
    """Any file of ours, or a checkpoint that `lseg-fast convert` reads."""
    if Path(path).suffix.lower() not in (".safetensors",):
        return converted(path, lseg_fast)
    tensors, metadata = read_tensors(path)
    if CONFIG not in metadata:
        return converted(path, lseg_fast)
    return split(path, tensors, metadata)


def split(path, tensors, metadata):
    """Image side and text side of a file whose metadata has a configuration."""
    try:
        config = json.loads(metadata[CONFIG])
        missing = [k for k in CONFIG_KEYS if k not in config]
    except (ValueError, TypeError) as error:
        raise Refused(f"{path}: its configuration ({CONFIG}) cannot be read ({error})") from None
    if missing:
        raise Refused(f"{path}: its configuration ({CONFIG}) has no {missing[0]}")
    text = {k[len(TEXT) :]: v for k, v in tensors.items() if k.startswith(TEXT)}
    image = {k: v.float() for k, v in tensors.items() if not k.startswith(TEXT)}
    return ModelFile(config, image, text, metadata)


def converted(path, lseg_fast):
    if lseg_fast is None:
        raise Refused(
            f'{path} is read through `lseg-fast convert`, but there is no lseg-fast in PATH; set program = "…"'
        )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.safetensors"
        said = subprocess.run(
            [lseg_fast, "convert", str(path), "--out", str(out), "--quiet"], capture_output=True, text=True
        )
        if said.returncode:
            raise Refused(f"{path} cannot be converted: {said.stderr.strip()}")
        tensors, metadata = read_tensors(out)
    return split(path, tensors, metadata)


# ------------------------------------------------------------------------------------------------------------- encoders


def encoder(source, config):
    """Starting weights of the image encoder: "timm:NAME", "torchvision:NAME", or a file with such a model's state ->
    tensors by the checkpoint's names."""
    kind, _, name = source.partition(":")
    if kind == "timm" and name:
        state = pretrained(kind, lambda timm: timm.create_model(name, pretrained=True).state_dict())
    elif kind == "torchvision" and name:
        state = pretrained(kind, lambda vision: vision.models.get_model(name, weights="DEFAULT").state_dict())
    else:
        state = state_file(source)
    named = vit_names if config["image"]["kind"] == "vit" else resnet_names
    return named(state, source)


def pretrained(library, make):
    try:
        return make(__import__(library))
    except ImportError:
        raise Refused(
            f"start.encoder needs {library}: pip install {library}, or name a file with the weights"
        ) from None
    except Exception as error:  # whatever a download or an unknown name raises there
        raise Refused(f"{library} does not give the weights: {error}") from None


def state_file(path):
    """A dict of tensors: safetensors, or what torch.save wrote (read as weights alone)."""
    if Path(path).suffix == ".safetensors":
        return read_tensors(path)[0]
    if not Path(path).is_file():
        raise Refused(f"{path} is not there; timm:NAME, torchvision:NAME or a file of weights is expected")
    try:
        script = zipfile.is_zipfile(path) and any(n.endswith("constants.pkl") for n in zipfile.ZipFile(path).namelist())
        read = (lambda p: torch.jit.load(p, "cpu").state_dict()) if script else plain_weights
        state = read(str(path))
    except Exception as error:  # torch names many kinds
        raise Refused(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise Refused(f"{path} holds no dict of tensors; a model's state_dict is expected")
    return state


def plain_weights(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def vit_names(state, source):
    """timm's names are the checkpoint's behind `pretrained.model.`."""
    if "reg_token" in state or "dist_token" in state:
        raise Refused(f"{source} has tokens beside the class token; LSeg's ViT has none")
    own = ("cls_token", "pos_embed", "patch_embed.proj.", "blocks.")
    return {f"pretrained.model.{k}": v.float() for k, v in state.items() if k.startswith(own)}


def resnet_names(state, source):
    """torchvision's; the stem sits in front of the first stage."""
    place = {"conv1.": "layer1.0.", "bn1.": "layer1.1.", "layer1.": "layer1.4."}
    named = {}
    for key, value in state.items():
        first = next((p for p in place if key.startswith(p)), None)
        if first:
            named[f"pretrained.{place[first]}{key[len(first) :]}"] = value.float()
        elif key.startswith(("layer2.", "layer3.", "layer4.")):
            named[f"pretrained.{key}"] = value.float()
    if not named:
        raise Refused(f"{source} has no tensors of a ResNet with torchvision's names")
    return named


# ----------------------------------------------------------------------------------------------------------- text tower

TEXT_KEYS = ("token_embedding.weight", "positional_embedding", "transformer.resblocks.", "ln_final.", "text_projection")


@dataclass
class TextTowerFile:
    numbers: dict
    embed_dim: int
    tensors: dict
    metadata: dict


def text_tower(path):
    """A file of ours, or CLIP's (OpenAI's or open_clip's state; safetensors or .pt)."""
    tensors, metadata = read_tensors(path) if Path(path).suffix == ".safetensors" else (state_file(path), {})
    if CONFIG in metadata:
        model = split(path, tensors, metadata)
        return TextTowerFile(model.config["text"], model.config["embed_dim"], model.text, metadata)
    tensors = {k.removeprefix(TEXT): v for k, v in tensors.items()}
    text = {k: v for k, v in tensors.items() if k.startswith(TEXT_KEYS)}
    try:
        vocab, width = text["token_embedding.weight"].shape
        embed_dim, context = text["text_projection"].shape[1], text["positional_embedding"].shape[0]
        mlp = text["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        layers = 1 + max(int(k.split(".")[2]) for k in text if k.startswith("transformer.resblocks."))
    except (KeyError, ValueError, IndexError) as missing:
        raise Refused(
            f"{path}: a text tower of CLIP's or a file of ours is expected, found one without {missing}"
        ) from None
    numbers = dict(
        vocab=vocab, context=context, width=width, layers=layers, heads=width // architecture.HEAD_SIZE, mlp=mlp
    )
    return TextTowerFile(numbers, embed_dim, text, metadata)


# -------------------------------------------------------------------------------------------------------------- loading


CARRIED = ("lseg-fast.training", "lseg-fast.licences", "lseg-fast.limits")
"""What a file says of itself that is still true of what comes of it."""


def carried(model, text):
    """Of the metadata of a start file and of a text tower's own file: texts that go into the run's files."""
    kept = {k: v for k, v in model.items() if k in CARRIED}
    licences = [found for m in (model, text) if (found := m.get("lseg-fast.licences"))]
    return kept | ({"lseg-fast.licences": "; ".join(dict.fromkeys(licences))} if licences else {})


ENCODER_LACKS = ("scratch.", "pretrained.act_postprocess")
FILE_LACKS = ("scratch.head_block.",)
"""What keeps its start where an encoder's weights, or a file of ours, do not have it."""


def load_image(model, tensors, source, may_lack=()):
    """Into an ImageModel; all of it must be there but what begins with one of `may_lack`."""
    own = model.state_dict()
    wanted = {k for k in own if not k.endswith("num_batches_tracked")}
    wrong = [k for k in wanted & tensors.keys() if own[k].shape != tensors[k].shape]
    if wrong:
        key = min(wrong)
        found, expected = list(tensors[key].shape), list(own[key].shape)
        raise Refused(
            f"{source}: {key} is {found}, {expected} is expected; the configuration describes another network"
        )
    missing = sorted(k for k in wanted - tensors.keys() if not k.startswith(tuple(may_lack)))
    if missing:
        raise Refused(f"{source} has no {missing[0]} ({len(missing)} tensors are missing); another network is in it")
    model.load_state_dict(own | {k: v for k, v in tensors.items() if k in wanted})


def grid_resized(tensors, grid):
    """With `pos_embed` for a grid of that side, as the network itself resizes it."""
    key = "pretrained.model.pos_embed"
    table = tensors.get(key)
    if table is None or table.shape[1] == 1 + grid * grid:
        return tensors
    side = round((table.shape[1] - 1) ** 0.5)
    square = table[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    square = torch.nn.functional.interpolate(square, (grid, grid), mode="bilinear", align_corners=False)
    return tensors | {key: torch.cat([table[:, :1], square.flatten(2).transpose(1, 2)], 1)}


# -------------------------------------------------------------------------------------------------------------- writing


def image_tensors(state, half):
    """What the program reads of an ImageModel's state. Running statistics stay float32: a variance may lie below
    float16's smallest number."""
    kept = {k: v.detach().cpu() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    return {k: (v.half() if half and "running_" not in k else v.float()).contiguous() for k, v in kept.items()}


def write_model(path, config, image, text, metadata):
    """Whole or not at all. `image`: tensors of `image_tensors`; `text`: as the start file had them."""
    bad = next((k for k, v in image.items() if not torch.isfinite(v).all()), None)
    if bad:
        raise Refused(f"{bad} holds values that are not finite in {image[bad].dtype}; the file is not written")
    tensors = image | {TEXT + k: v.contiguous() for k, v in text.items()}
    path, part = Path(path), Path(f"{path}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(part):
        save_file(tensors, part, metadata={CONFIG: json.dumps(config), **metadata})
        part.chmod(0o644)
        part.rename(path)


class whole:
    """Says of a full disk what to do, and leaves no half of a file."""

    def __init__(self, part):
        self.part = Path(part)

    def __enter__(self):
        return self.part

    def __exit__(self, kind, error, _):
        if error is None:
            return
        self.part.unlink(missing_ok=True)
        if isinstance(error, (OSError, SafetensorError, RuntimeError)):
            free = shutil.disk_usage(existing(self.part.parent)).free
            raise Refused(
                f"{self.part} cannot be written ({error}); {free >> 20} MiB are free there. What was kept before is "
                "whole"
            ) from None


def existing(folder):
    while not folder.exists():
        folder = folder.parent
    return folder


def save_state(content, path):
    """torch.save, whole or not at all, on the disk when this returns."""
    part = Path(f"{path}.part")
    with whole(part):
        with open(part, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
