"""The study's results as markdown: who collapsed, what the block gives at depth 1, and the paths of single runs."""

from collections import Counter, defaultdict
from statistics import mean, median, stdev

from lseg_train.errors import Refused
from studies.depth_table import STARTS, Job

POOR, UNIFORM, WELL = 1 / 3, 0.98, 0.9
"""A run collapsed if its mIoU is below POOR of what the same seed has without a block and its loss is not finite or
above UNIFORM of ln N, which is what an even answer costs. It went well from WELL of that mIoU on. The rest is in
between."""

COLUMNS = ("step", "loss", "mean", "below", "contrast", "gradient", "gain", "bias")


def report(results):
    references = reference(results)
    judged = [{**r, "verdict": verdict(r, references)} for r in results]
    parts = [counts(judged)]
    for title, rows in (("As published", published(judged)), ("Other training", other(judged))):
        parts.append(f"### {title}\n\n{collapses(rows)}")
    parts.append(f"### Depth 1\n\n{depth_one(judged)}")
    parts.append(f"### Depth 4 with LeakyReLU, run by run\n\n{beginnings(judged)}")
    return "\n\n".join(parts)


def training(result):
    """What distinguishes runs whose mIoUs must not be compared, and the seed, which decides much."""
    return result["optimiser"], result["rate"], result["clip"], result["seed"]


def reference(results):
    """Training -> mIoU without a block."""
    without = {training(r): r["miou"] for r in results if r["kind"] == "none"}
    if not without:
        raise Refused("no run without a block is there yet, which the others are judged by; --only 'none-*' makes some")
    return without


def verdict(result, references):
    """collapsed, between or well; the median of all counts where the run without a block is missing."""
    usual = references.get(training(result), median(references.values()))
    loss = result["loss_to_uniform"]
    if result["miou"] < POOR * usual and (loss is None or loss > UNIFORM):
        return "collapsed"
    return "well" if result["miou"] >= WELL * usual else "between"


def counts(judged):
    of = Counter(r["verdict"] for r in judged)
    return f"{len(judged)} runs: {of['well']} well, {of['between']} in between, {of['collapsed']} collapsed."


def extra(r):
    """How a run's training differs from the published one."""
    if r["optimiser"] != Job.optimiser:
        return f"{r['optimiser']} with clip {r['clip']:g}"
    parts = [f"clip {r['clip']:g}"] * bool(r["clip"])
    parts += [f"rate {r['rate']:g}"] * (r["rate"] != Job.rate)
    parts += [f"block's rate × {r['block_rate']:g}"] * (r["block_rate"] != Job.block_rate)
    return ", ".join(parts)


def name(r):
    return ", ".join(filter(None, [r["kind"], f"depth {r['depth']}", r["activation"], r["start"], extra(r)]))


def published(judged):
    return [r for r in judged if not extra(r)]


def other(judged):
    return [r for r in judged if extra(r)]


def by_row(rows):
    """(kind, depth, activation, extra) -> start -> runs by seed, in the order of the rows."""
    cells = defaultdict(lambda: defaultdict(list))
    for r in sorted(rows, key=lambda r: r["seed"]):
        cells[r["kind"], r["depth"], r["activation"] if r["depth"] > 1 else "any", extra(r)][r["start"]].append(r)
    order = ("none", "depthwise", "bottleneck", "scale", "shape", "steady")
    return dict(sorted(cells.items(), key=lambda item: (order.index(item[0][0]), item[0][3], item[0][1], item[0][2])))


def collapses(rows):
    """Collapsed runs in bold, those in between in italics."""
    lines = ["| block | depth | activation | " + " | ".join(STARTS) + " |", "|---|---|---|" + "---|" * len(STARTS)]
    for (kind, depth, activation, how), starts in by_row(rows).items():
        shown = [cell(starts.get(start, [])) for start in STARTS]
        lines.append(f"| {kind}{f', {how}' * bool(how)} | {depth} | {activation} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def cell(runs):
    if not runs:
        return "–"
    collapsed = sum(r["verdict"] == "collapsed" for r in runs)
    marks = {"collapsed": "**", "between": "*", "well": ""}
    values = " ".join(f"{marks[r['verdict']]}{r['miou']:.1f}{marks[r['verdict']]}" for r in runs)
    return f"{collapsed} of {len(runs)}: {values}"


def spread(values, digits=1):
    around = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{around}" if values else "–"


def depth_one(judged):
    """Means and standard deviations over seeds; "over none": less that of the same seed without a block; "left out":
    mIoU of the same network measured without its block."""
    none = {r["seed"]: r for r in published(judged) if r["kind"] == "none"}
    lines = ["| block | start | seeds | mIoU | over none | left out | loss over none | gain |", "|---" * 8 + "|"]
    for (kind, depth, _, how), starts in by_row(judged).items():
        if depth > 1 or how:
            continue
        for start, runs in starts.items():
            gains = [abs(r["path"][-1].get("gain", 1)) for r in runs]
            mious, left_out = [r["miou"] for r in runs], [r["miou_without"] for r in runs]
            paired = [r for r in runs if r["seed"] in none]
            over, loss = ([r[key] - none[r["seed"]][key] for r in paired] for key in ("miou", "loss"))
            numbers = [*map(spread, (mious, over, left_out)), spread(loss, 3), spread(gains, 2)]
            lines.append(f"| {kind} | {start if depth else '–'} | {len(runs)} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def deep(judged):
    """Published training, depth 4, LeakyReLU, two kinds: the runs that the paper's table is about."""
    kinds = ("depthwise", "bottleneck")
    return [r for r in published(judged) if (r["kind"] in kinds, r["depth"], r["activation"]) == (True, 4, "lrelu")]


def beginnings(judged):
    """Gain and contrast when the block starts, 20 steps later and at the end."""
    lines = ["| block | start | seed | gain | contrast | least contrast | least gradient | mIoU |", "|---" * 8 + "|"]
    for r in deep(judged):
        first = r["after"] if r["start"] == "late" else 0
        at = {entry["step"]: entry for entry in r["path"] if entry["step"] >= first}
        marks = [at[first], at[first + 20], r["path"][-1]]
        shown = [" → ".join(f"{entry[what]:.2g}" for entry in marks) for what in ("gain", "contrast")]
        shown += [f"{min(entry[what] for entry in at.values()):.1g}" for what in ("contrast", "gradient")]
        lines.append(f"| {r['kind']} | {r['start']} | {r['seed']} | " + " | ".join(shown) + f" | {r['miou']:.1f} |")
    return "\n".join(lines)


def paths(results):
    return "\n\n".join(f"### {name(r)}, seed {r['seed']}: mIoU {r['miou']:.1f}\n\n{path(r)}" for r in results)


def path(result):
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for entry in result["path"]:
        shown = [f"{entry[c]:.3g}" if entry.get(c) is not None else "–" for c in COLUMNS]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)
