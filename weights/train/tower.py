"""The trained text tower: kept, loaded, asked."""

import torch
from torch.nn import functional as F

from network import TEXT, TextTower
from sources import OUT
from tokenizer import END, encode

PATH = OUT / "text.pt"


def save(content, path):
    """Whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def padded(ids):
    longest = max(map(len, ids))
    return torch.tensor([i + [END] * (longest - len(i)) for i in ids])


def vectors(tower, texts, batch=512):
    """Unit vectors [n, EMBEDDING] of a tower in evaluation mode."""
    with torch.inference_mode():
        parts = [tower(padded([encode(t) for t in texts[i : i + batch]])) for i in range(0, len(texts), batch)]
    return F.normalize(torch.cat(parts), dim=-1).clone()


def load():
    if not PATH.exists():
        raise SystemExit(f"{PATH} is missing; run the text stage first")
    stored = torch.load(PATH, weights_only=True)
    tower = TextTower(**TEXT)
    tower.load_state_dict(stored["model"])
    return tower.eval(), frozenset(stored["real_words"])
