"""Writes and reads the published checkpoint format: the zip that PyTorch Lightning 1.x leaves behind.

Lightning itself is not needed. The pickle names two of its classes; stand-ins of the same dotted name are enough to
write it (and to read it back).
"""

import sys
import types

import torch
import torch.nn as nn


def _stand_in(module, name, base):
    """A class `module.name` without the package: what pickle records is exactly these two strings."""
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    cls = type(name, (base,), {"__module__": module})
    setattr(sys.modules[module], name, cls)
    return cls


ModelCheckpoint = _stand_in("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", object)
AttributeDict = _stand_in("pytorch_lightning.utilities.parsing", "AttributeDict", dict)


def state_dict(model, clip_dtype, image_dtype):
    """The model's tensors under `net.`, rounded to the given element types (integers stay)."""
    lightning = nn.Module()
    lightning.net = model
    state = lightning.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point():
            dtype = clip_dtype if key.startswith("net.clip_pretrained.") else image_dtype
            state[key] = tensor.to(dtype).contiguous()
    return state


def hyper_parameters(kind, head_block):
    """`kind`: "dict", "attribute_dict" or "empty"."""
    if kind == "empty":
        return {}
    values = {
        "data_path": "../datasets/",
        "dataset": "ade20k",
        "backbone": "clip_vitl16_384",
        "num_features": 256,
        "arch_option": {"none": 0, "bottleneck": 1, "depthwise": 2}[head_block["kind"]],
        "block_depth": head_block["depth"],
        "activation": head_block["activation"],
        "batch_size": 1,
        "base_lr": 0.004,
        "weight_decay": 1e-4,
        "ignore_index": -1,
        "scale_factor": 1.0,
        "no_scaleinv": True,
        "resume": None,
        "gpus": [0, 1],
        "crop": (480, 480),
    }
    return AttributeDict(values) if kind == "attribute_dict" else values


def save(path, state, hyper_kind, head_block):
    """Tensors and everything that Lightning puts beside them. torch.save stamps no time: equal input, equal bytes."""
    first = next(t for t in state.values() if t.dim() > 1)
    checkpoint = {
        "epoch": 200,
        "global_step": 1234567,
        "pytorch-lightning_version": "1.3.5",
        "state_dict": state,
        "callbacks": {
            ModelCheckpoint: {
                "monitor": "val_acc_epoch",
                "best_model_score": torch.tensor(0.5),
                "best_model_path": "checkpoints/lseg_ade20k/result-epoch=200.ckpt",
                "current_score": None,
                "dirpath": "checkpoints/lseg_ade20k",
            }
        },
        "optimizer_states": [
            {
                "state": {0: {"momentum_buffer": torch.zeros_like(first[:1])}, 1: {"momentum_buffer": None}},
                "param_groups": [
                    {"lr": 0.004, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False, "params": [0, 1]}
                ],
            }
        ],
        "lr_schedulers": [{"base_lrs": [0.004], "last_epoch": 200, "_step_count": 201, "lr_lambdas": [None]}],
        "hparams_name": "kwargs",
        "hyper_parameters": hyper_parameters(hyper_kind, head_block),
    }
    if hyper_kind == "attribute_dict":
        checkpoint["hparams_type"] = AttributeDict
    torch.save(checkpoint, path)


def load(path, model):
    """Reads a file of `save` into `model`, strictly, in the model's own element type."""
    state = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    model.load_state_dict({k.removeprefix("net."): v for k, v in state.items()}, strict=True)
    return model
