"""`lseg-train check`: everything that `fit` would die of after an hour, found in one reading."""

from . import architecture
from .begin import beginning, data_of
from .errors import Refused
from .inspect_data import inspect
from .sheet import contact_sheet

SHOWN = 30


def check(config, say=print):
    """-> exit code: 0 where fit may start."""
    problems = []
    begun = collected(problems, lambda: beginning(config))
    opened = collected(problems, lambda: data_of(config))
    if begun:
        image = begun.config["image"]
        say(
            f"network: {image['kind']}, step {architecture.step(begun.config)}, features {begun.config['features']}, C "
            f"{begun.config['embed_dim']}, head block {begun.config['head_block']['kind']} × {begun.config['head_block']['depth']}, "
            f"{sum(p.numel() for p in begun.model.parameters()) / 1e6:.1f} million weights to train"
        )
    if opened:
        training, validation = opened
        report = inspect([*training, *validation], begun.words.problem if begun else lambda _: None, say)
        problems += report.problems
        if not report.problems:
            path = config.out / "samples.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            contact_sheet(training, path, config.recipe.seed)
            say(f"eight samples: {path}")
    for problem in problems[:SHOWN]:
        say(f"error: {problem}")
    if len(problems) > SHOWN:
        say(f"… and {len(problems) - SHOWN} more")
    say(f"{len(problems)} problems" if problems else "fit may start")
    return 1 if problems else 0


def collected(problems, action):
    """The action's result; what it refuses goes to `problems`."""
    try:
        return action()
    except Refused as why:
        problems.append(str(why))
        return None
