"""Rates are PyTorch's own schedules; every number may be overridden, none wrongly."""

import pytest
import torch

from lseg_train.errors import Refused
from lseg_train.order import Order
from lseg_train.recipes import Recipe, rate, resolved


def test_published_rates_of_240_epochs_are_pytorchs():
    """LSeg: SGD, LambdaLR of (1 - epoch/epochs)^0.9 stepped once an epoch, base/16·batch, ten times that for the
    decoder."""
    recipe, steps_an_epoch = resolved("published", {"batch": 8}), 7
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.004 / 16 * 8)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: (1.0 - epoch / 240) ** 0.9)
    for epoch in range(240):
        for step in (0, steps_an_epoch - 1):
            found = rate(recipe, epoch * steps_an_epoch + step, 240 * steps_an_epoch, steps_an_epoch)
            assert found == pytest.approx(schedule.get_last_lr()[0], rel=1e-12)
        optimiser.step()
        schedule.step()
    assert recipe.decoder_rate == 10 and recipe.momentum == 0.9 and recipe.weight_decay == 1e-4
    optimiser = torch.optim.SGD([torch.zeros(1)], 0.002)
    polynomial = torch.optim.lr_scheduler.PolynomialLR(optimiser, 240, 0.9)
    optimiser.step()
    polynomial.step()
    assert rate(recipe, steps_an_epoch, 240 * steps_an_epoch, steps_an_epoch) == pytest.approx(
        polynomial.get_last_lr()[0], rel=1e-9
    )


def test_cosine_rises_and_falls_as_pytorchs():
    recipe, steps = resolved("finetune", {"warm_up": 10}), 200
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], recipe.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        rising = min(1, (step + 1) / 10)
        assert rate(recipe, step, steps, 20) == pytest.approx(rising * schedule.get_last_lr()[0], rel=1e-6)
        optimiser.step()
        schedule.step()


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("fast", {}, "published, finetune, zero-shot"),
        ("finetune", {"optimiser": "adam"}, "sgd, adamw"),
        ("finetune", {"rate": -1.0}, "above 0"),
        ("finetune", {"rate": float("nan")}, "above 0"),
        ("finetune", {"momentum": 1.0}, "below 1"),
        ("finetune", {"scales": [2.0, 1.0]}, "smallest, largest"),
        ("finetune", {"leave_out": 0.5}, "negatives"),
        ("finetune", {"epochs": 0}, "one of them"),
    ],
)
def test_wrong_numbers_are_refused(name, given, why):
    with pytest.raises(Refused, match=why):
        resolved(name, given)


def test_order_is_whole_weighted_and_a_function_of_the_number():
    recipe = Recipe(batch=4, seed=3)
    order = Order([10, 30], [1.0, 1.0], recipe)
    assert order.epoch_samples == 40
    seen = [order(n) for n in range(80)]
    assert sorted(seen[:40]) == sorted([(0, i) for i in range(10)] + [(1, i) for i in range(30)])
    assert seen[:40] != seen[40:] and sorted(seen[:40]) == sorted(seen[40:])
    assert [Order([10, 30], [1.0, 1.0], recipe)(n) for n in (77, 3, 41)] == [seen[77], seen[3], seen[41]]
    heavy = Order([10, 30], [3.0, 1.0], recipe)
    counts = [sum(heavy(n)[0] == which for n in range(heavy.epoch_samples)) for which in (0, 1)]
    assert heavy.epoch_samples == 60 and counts == [30, 30]
    few = Order([10, 30], [1.0, 1.0], Recipe(batch=4, epoch_samples=7))
    assert few.epoch_samples == 4
    assert len({few(n) for n in range(40) if few(n)[0] == 0}) == 10  # no photo is drawn twice before all were
