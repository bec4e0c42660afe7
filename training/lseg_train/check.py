"""`lseg-train check`: everything that `fit` would die of after an hour, found in one reading."""

from . import architecture
from .begin import beginning, refuse_crop
from .data import open_data
from .errors import Refused
from .inspect_data import inspect
from .sheet import contact_sheet

SHOWN = 100


def check(config, say=print):
    """-> exit code: 0 where fit may start."""
    problems = []
    begun = collected(problems, lambda: beginning(config))
    if begun:
        say(network_line(begun))
        collected(problems, lambda: refuse_crop(config.recipe, begun))
    refuse_word = begun.words.problem if begun else lambda _: None
    sets = [opened(problems, config, tables) for tables in (config.file.data, config.file.validation)]
    report = inspect([*sets[0], *sets[1]], refuse_word, say)
    for found in report.sets:
        for line in found.lines():
            say(line)
    problems += report.problems
    if not problems:
        path = config.out / "samples.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(sets[0], path, config.recipe.seed)
        say(f"eight samples: {path}")
    for problem in problems[:SHOWN]:
        say(f"error: {problem}")
    if len(problems) > SHOWN:
        say(f"and {len(problems) - SHOWN} more")
    say(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}" if problems else "fit may start")
    return 1 if problems else 0


def opened(problems, config, tables):
    """The data sets that can be opened; a missing file is told when its sample is read."""
    found = [
        collected(problems, lambda table=table: open_data(table, config.root, absent_files="keep")) for table in tables
    ]
    return [data for data in found if data is not None]


def network_line(begun):
    config, weights = begun.config, sum(p.numel() for p in begun.model.parameters())
    block = config["head_block"]
    return (
        f"network: {config['image']['kind']}, step {architecture.step(config)}, features {config['features']}, C "
        f"{config['embed_dim']}, head block {block['kind']} × {block['depth']}, {weights / 1e6:.1f} million weights to "
        "train"
    )


def collected(problems, action):
    """The action's result; what it refuses goes to `problems`."""
    try:
        return action()
    except Refused as why:
        problems.append(str(why))
        return None
