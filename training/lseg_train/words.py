"""Label vectors: the frozen text tower, asked once for each word."""

import torch
from torch.nn import functional as F

from .errors import Refused
from .network import TextTower
from .tokens import Tokenizer, unreadable

BATCH = 256


class Words:
    """Unit vectors [embed_dim] of words, made when first asked for; equal to `lseg-fast text`."""

    def __init__(self, text, embed_dim, state):
        """`text`: the tower's numbers; `state`: its tensors, without a prefix."""
        self.context, self.encode = text["context"], Tokenizer(text["vocab"])
        self.tower = TextTower(embed_dim, **text).eval().requires_grad_(False)
        self.tower.load_state_dict({k: v.float() for k, v in state.items()})
        self.known = {}

    def problem(self, word):
        """Why a word has no vector, or None."""
        if not word.strip():
            return "it is empty"
        if why := unreadable(word):
            return why
        length = len(self.encode(word))
        if length > self.context:
            return f"it has {length - 2} tokens, at most {self.context - 2} are expected"
        return None

    @torch.inference_mode()
    def learn(self, words):
        """Makes the vectors of many words at once."""
        new = [w for w in dict.fromkeys(words) if w not in self.known]
        for word in new:
            if why := self.problem(word):
                raise Refused(f"the word {word!r} has no vector: {why}")
        for i in range(0, len(new), BATCH):
            some = new[i : i + BATCH]
            ids = [self.encode(w) for w in some]
            longest = max(map(len, ids))
            padded = torch.tensor([row + [row[-1]] * (longest - len(row)) for row in ids])
            self.known |= zip(some, F.normalize(self.tower(padded), dim=-1).clone())

    def __call__(self, words):
        """-> [len(words), embed_dim] of length 1."""
        self.learn(words)
        return torch.stack([self.known[w] for w in words])
