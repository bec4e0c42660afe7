"""Golden label vectors of the published template lists, and the masks that VLMaps makes with them.

A word's texts are each encoded and brought to length 1; the word's vector is their mean. CLIP brings the mean to length
1 again, VLMaps does not, so that words whose texts disagree score less. OpenScene leaves its last word, "other", bare.
`protocols.py` writes and compares the file.
"""

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from clip_tokens import tokenizer
from generate import HERE, relative_error, tolerance

FILE = "templates.safetensors"
LISTS = HERE.parents[1] / "src/engine/template_lists"
VLMAPS_CASE = "vlmaps_{}"  # the case whose features are scored


def templates(name):
    return (LISTS / f"{name}.txt").read_text().splitlines()


def unit(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True)


def encode(model, texts):
    """→ [texts, C], not normalised."""
    tokens = tokenizer(model.config["text"]["vocab"])(texts)
    assert (tokens[:, -1] == 0).all(), "a text fills the context and may have been cut"
    return model.clip_pretrained(tokens)


def mean_of_units(model, word, name):
    return unit(encode(model, [t.replace("{}", word) for t in templates(name)])).mean(0)


def clip80(model, words):
    return torch.stack([unit(mean_of_units(model, word, "clip80")) for word in words])


def vlmaps63(model, words):
    return torch.stack([mean_of_units(model, word, "vlmaps63") for word in words])


def openscene(model, words):
    texts = [t.replace("{}", word) for word in words[:-1] for t in templates("openscene")]
    return unit(encode(model, [*texts, words[-1]]))


@torch.no_grad()
def tensors(network, model, words, features):
    """By name: each list's vectors [N, C] of words, the last of which is "other"; then features [n, C] of VLMaps'
    golden case times its vectors, and the argmax."""
    vectors = {"clip80": clip80(model, words), "vlmaps63": vlmaps63(model, words), "openscene": openscene(model, words)}
    scores = torch.as_tensor(features).double() @ vectors["vlmaps63"].T
    out = {f"{network}/{name}": v.float().numpy() for name, v in vectors.items()}
    return out | {
        f"{network}/vlmaps63_scores": scores.float().numpy(),
        f"{network}/vlmaps63_mask": scores.argmax(1).numpy().astype(np.int32),
    }


def make(folder, networks, load):
    """`load` gives a network and its description; the folder already has expected.safetensors."""
    features, out = load_file(folder / "expected.safetensors"), {}
    for network in networks:
        model, description = load(network)
        out |= tensors(network, model, description["labels"], features[f"{VLMAPS_CASE.format(network)}/values"])
    save_file(out, folder / FILE)


def error(name, got, reference):
    """In parts of what the suite allows for vectors and scores; masks are not compared."""
    if name.endswith("_mask"):
        return 0.0
    kind = "scores" if name.endswith("_scores") else "text"
    return relative_error(kind, torch.as_tensor(got), torch.as_tensor(reference)) / tolerance(kind)


def worst(new, old):
    """→ (the worst error, its tensor's name)"""
    assert new.keys() == old.keys(), f"other tensors: {sorted(new.keys() ^ old.keys())}"
    return max((error(name, new[name], old[name]), name) for name in new)


def same(fresh, committed):
    return worst(load_file(fresh / FILE), load_file(committed / FILE))[0] < 1
