"""Stage `text`: a CLIP-shaped text tower that imitates a sentence encoder, for good afterwards (LSeg freezes its text
encoder) -> out/text.pt.

The teacher's space: all-MiniLM-L6-v2's sentence vectors, centred on the words that pictures show, turned onto their
main directions. One direction is put beside these by hand: "nothing that is named", where the words for "other" and
every meaningless word lie. That makes "other" a label like any other, and lets any invented word take its place."""

import argparse
import math
import time

import all_minilm_l6_v2
import numpy as np
import torch
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from gibberish import gibberish
from glyphs import icon_names
from network import EMBEDDING, TEXT, TextTower
from sources import CACHE, OUT, STYLES, package
from things import BACKGROUNDS, HELD_OUT, NOUNS, OTHER, SUPERCLASSES, words_of
from tokenizer import encode
from tower import PATH, padded, save, vectors

RESUME = OUT / "text-unfinished.pt"
SEED = 0
BATCH = 256
RATE = 3e-3
OTHER_KEEPS = 0.35
"""How much of its own meaning a word for "other" keeps beside the direction that all of them share."""

COLOURS = "red green blue yellow black white brown pink grey orange small big".split()


class Teacher:
    """Mean over the tokens' last states, unit length, as published for this encoder."""

    def __init__(self):
        folder = all_minilm_l6_v2.get_model_path(str(CACHE))
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()

    def words(self):
        """Its own whole words, most frequent first."""
        ids = self.tokenizer.get_vocab()
        return [w for w in sorted(ids, key=ids.get) if w.isascii() and w.isalpha() and w.islower() and len(w) > 2]

    @torch.inference_mode()
    def __call__(self, texts, batch=256):
        vectors = torch.zeros(len(texts), self.model.config.hidden_size)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for i in range(0, len(order), batch):
            chosen = order[i : i + batch]
            tokens = self.tokenizer([texts[k] for k in chosen], padding=True, return_tensors="pt")
            mask = tokens["attention_mask"].unsqueeze(-1).float()
            states = self.model(**tokens)[0]
            vectors[chosen] = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        return vectors


def visual_words():
    words = [w for n in NOUNS + HELD_OUT for w in words_of(n.name)]
    words += [w for name in BACKGROUNDS for w in words_of(name)] + [w for names, _ in SUPERCLASSES for w in names]
    return list(dict.fromkeys(words))


def plural(word):
    if word.endswith("s"):
        return word
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("sh", "ch", "x", "o")) else "s")


def sentences(rng, teacher):
    """text -> how often it is drawn."""
    noto = next(s for s in STYLES if s.name == "noto")
    weights = {w: 1.0 for w in teacher.words()}
    for phrase in icon_names(noto, package(noto)).values():
        weights[phrase.replace("-", " ")] = 1.0
    for word in visual_words():
        forms = {word: 40, f"a {word}": 10, f"a photo of a {word}": 10, plural(word): 10, f"the {word}": 4}
        forms |= {f"an image of a {word}": 2, f"a drawing of a {word}": 2, f"{rng.choice(COLOURS)} {word}": 1}
        for form, weight in forms.items():
            weights[form] = max(weight, weights.get(form, 0))
    return {text: w for text, w in weights.items() if text not in OTHER}


class Space:
    """The teacher's vectors in EMBEDDING - 1 directions; the last one is "nothing that is named"."""

    def __init__(self, vectors, visual):
        self.centre = visual.mean(0)
        centred = torch.cat([*[visual - self.centre] * 3, vectors[:: max(1, len(vectors) // 6000)] - self.centre])
        self.axes = torch.linalg.svd(centred, full_matrices=False)[2][: EMBEDDING - 1].T

    def meaning(self, vectors):
        inside = F.normalize((vectors - self.centre) @ self.axes, dim=-1)
        return F.pad(inside, (0, 1))

    def other(self, vectors):
        kept = OTHER_KEEPS * self.meaning(vectors)
        kept[:, -1] = 1
        return F.normalize(kept, dim=-1)


def resume(tower, optimiser, rng):
    """Goes on from a stopped run's checkpoint; the step to begin with."""
    if not RESUME.exists():
        return 0
    stored = torch.load(RESUME, weights_only=True)
    tower.load_state_dict(stored["model"])
    optimiser.load_state_dict(stored["optimiser"])
    rng.bit_generator.state = stored["rng"]
    return stored["step"]


class Batches:
    """Half of the batches draw by weight, half evenly; texts of one length in tokens go together. A quarter of each is
    new gibberish."""

    def __init__(self, rng, texts, targets, weights, fresh):
        self.rng, self.targets, self.fresh = rng, targets, fresh
        self.ids = [encode(t) for t in texts]
        lengths = np.array([len(i) for i in self.ids])
        edges = [3, 4, 5, 6, 8, 64]
        buckets = [np.flatnonzero((lengths > low) & (lengths <= high)) for low, high in zip([0, *edges], edges)]
        self.buckets = [b for b in buckets if len(b)]
        self.weights = [weights, np.minimum(weights, 2)]

    def __call__(self, step):
        weights = self.weights[step % 2]
        mass = np.array([weights[b].sum() for b in self.buckets])
        bucket = self.buckets[self.rng.choice(len(self.buckets), p=mass / mass.sum())]
        w = weights[bucket]
        chosen = self.rng.choice(bucket, BATCH * 3 // 4, p=w / w.sum())
        ids, targets = self.fresh(BATCH // 4)
        return padded([self.ids[i] for i in chosen] + ids), torch.cat([self.targets[chosen], targets])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    teacher = Teacher()
    weights = sentences(rng, teacher)
    texts, visual = list(weights), visual_words()
    real_words = frozenset(w for t in texts + OTHER for w in t.split())
    print(f"{len(texts)} texts, {len(visual)} of them shown in pictures", flush=True)
    raw = teacher(texts)
    space = Space(raw, teacher(visual))
    targets = torch.cat([space.meaning(raw), space.other(teacher(OTHER))])
    stock = gibberish(rng, 4000, real_words)
    nothing = space.other(teacher(stock)).mean(0)

    def fresh(count):
        """New meaningless words; the teacher's view of each would cost more than the step, so all get the mean."""
        words = gibberish(rng, count, real_words)
        return [encode(w) for w in words], F.normalize(nothing, dim=0).expand(count, -1)

    drawn = np.array([*weights.values(), *[60.0] * len(OTHER)])
    batches = Batches(rng, texts + OTHER, targets, drawn, fresh)
    tower = TextTower(**TEXT)
    with torch.no_grad():  # a word of one token starts where the teacher has it
        for ids, target in zip(batches.ids, targets):
            if len(ids) == 3:
                tower.token_embedding.weight[ids[1]] = 0.3 * target[: TEXT["width"]]
    optimiser = torch.optim.AdamW(tower.parameters(), RATE, weight_decay=1e-4, betas=(0.9, 0.98))
    aims, unseen = space.meaning(teacher(visual)), gibberish(np.random.default_rng(SEED + 1), 500, real_words)
    start, first = time.time(), resume(tower, optimiser, rng)
    for step in range(first, steps):
        rate = RATE * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-5
        for group in optimiser.param_groups:
            group["lr"] = rate
        ids, aim = batches(step)
        made = F.normalize(tower(ids), dim=-1)
        loss = (1 - (made * aim).sum(-1)).mean() + 3 * ((made @ made.T - aim @ aim.T) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 50 == 0:
            save({"model": tower.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1,
                  "rng": rng.bit_generator.state}, RESUME)  # fmt: skip
            seen = vectors(tower, visual)
            right = ((seen @ aims.T).argmax(1) == torch.arange(len(visual))).float().mean()
            cosine, other = (seen * aims).sum(-1), vectors(tower, unseen) @ vectors(tower, ["other"]).T
            print(
                f"{time.time() - start:4.0f} s step {step + 1} loss {loss:.4f} cosine to the teacher {cosine.mean():.3f} "
                f"(least {cosine.min():.3f}), nearest right {right:.3f}; new gibberish to 'other' {other.mean():.3f} "
                f"(5 % below {other.quantile(0.05):.3f})",
                flush=True,
            )
    save({"model": tower.state_dict(), "real_words": sorted(real_words), "steps": steps}, PATH)
    RESUME.unlink()


if __name__ == "__main__":
    main()
