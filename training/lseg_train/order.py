"""Which photo comes when: a function of the seed and of the sample's number alone, so that a run that goes on, or has
more processes, sees the same."""

import numpy as np


class Order:
    """Sample number -> (data set, item). An epoch has each data set's share of samples by its weight times its size, in
    whole batches; a data set is gone through whole before a photo of it comes again."""

    def __init__(self, sizes, weights, recipe):
        self.sizes, self.seed = sizes, recipe.seed
        shares = np.array(sizes, float) * np.array(weights, float)
        wanted = recipe.epoch_samples or round(shares.sum())
        self.epoch_samples = max(recipe.batch, wanted // recipe.batch * recipe.batch)
        exact = shares / shares.sum() * self.epoch_samples
        counts = np.floor(exact).astype(int)
        for i in np.argsort(counts - exact, kind="stable")[: self.epoch_samples - counts.sum()]:
            counts[i] += 1
        self.counts, self.kept = counts, (None, None)

    def __call__(self, number):
        epoch, place = divmod(number, self.epoch_samples)
        if self.kept[0] != epoch:
            self.kept = (epoch, self.epoch(epoch))
        return tuple(int(i) for i in self.kept[1][place])

    def epoch(self, epoch):
        """[epoch_samples, 2]"""
        parts = []
        for which, (size, count) in enumerate(zip(self.sizes, self.counts)):
            places = epoch * count + np.arange(count)
            items = np.zeros(count, int)
            for turn in np.unique(places // size):
                shuffled = np.random.default_rng([self.seed, which, int(turn)]).permutation(size)
                chosen = places // size == turn
                items[chosen] = shuffled[places[chosen] % size]
            parts.append(np.stack([np.full(count, which), items], 1))
        return np.random.default_rng([self.seed, 1 << 20, epoch]).permutation(np.concatenate(parts))
