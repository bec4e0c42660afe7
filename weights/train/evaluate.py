"""Stage `evaluate`: the four claims, measured through the Rust binary -> weights/demo/REPORT.md: of the float16 file, and of the
model inside the binary, which has 8 bits a weight (crates/demo) and must keep the claims' numbers within 0.01.

The binary writes the scores of all words that the claims use; a label set's mask is the best of its words. On the first
scenes of each set that is checked against the masks that the binary writes itself for that label set."""

import argparse
import dataclasses
import json
import struct
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import export
from claims import Tally, all_words, questions
from scenes import SIDE, Scenes
from sources import DEMO, HERE, STYLES, TEST_STYLES, TRAINING_STYLES
from things import BACKGROUNDS, HELD_OUT_NAMES, TRAINED

BINARY = HERE.parent.parent / "target" / "release" / "lseg-fast"
REPORT = DEMO / "REPORT.md"
SCENES = 300
CHUNK = 20
CHECKED = 5
# How far the claims' numbers may be apart between the file and the model inside the binary.
CLOSE = 0.01

SETS = {
    "training styles": (TRAINING_STYLES, TRAINED, 1),
    "Twemoji": (TEST_STYLES, TRAINED, 2),
    "zero-shot, training styles": (TRAINING_STYLES, HELD_OUT_NAMES, 3),
    "zero-shot, Twemoji": (TEST_STYLES, HELD_OUT_NAMES, 4),
}

# claim, number, must and goal for training styles and Twemoji; a number may be wanted above or below these.
CLAIMS = [
    ("labels present are segmented: object mIoU", "object mIoU", ">", (0.68, 0.80), (0.48, 0.60)),
    ("an absent label is not recalled: pixels given to it", "absent pixels", "<", (0.01, 0.005), (0.01, 0.005)),
    ("… scenes where it gets more than 1 %", "absent scenes", "<", (0.20, 0.10), (0.20, 0.10)),
    ("what is not offered becomes \"other\": recall, real word", "other recall, real word", ">", (0.93, 0.96), (0.93, 0.96)),
    ("… recall, meaningless word", "other recall, meaningless word", ">", (0.88, 0.95), (0.88, 0.95)),
    ("a synonym selects the same pixels: IoU, share of the name's own", "synonym's share", ">", (0.85, 0.95), (0.85, 0.95)),
    ("a superclass does: IoU, share of the name's own", "superclass's share", ">", (0.85, 0.95), (0.85, 0.95)),
    ("backgrounds: mIoU", "background mIoU", ">", (0.88, 0.88), (0.88, 0.88)),
]  # fmt: skip


def test_scenes(styles, nouns, seed):
    """Endless; the drawings as their packages have them, one style a scene."""
    drawn = Scenes([1000, seed], styles, nouns=TRAINED, one_style=1, restyled=0)
    while True:
        must = [] if nouns is TRAINED else [nouns[drawn.rng.integers(len(nouns))]]
        yield drawn.scene(must)


def refuse_other_models(model):
    with open(model, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    found = json.loads(header.get("__metadata__", {}).get("lseg-fast.config", "{}")).get("text")
    if found != export.CONFIG["text"]:
        raise SystemExit(f"{model} has the text tower {found}; these words are for {export.CONFIG['text']}")


class Product:
    """The binary with a model; without one, with the model inside it."""

    def __init__(self, binary, model):
        self.binary, self.model = binary, model

    def run(self, folder, words, save, out):
        (out / "words.txt").write_text("\n".join(words) + "\n")
        command = [self.binary, "run", folder, "--labels", f"@{out / 'words.txt'}", "--save", save, "--out", out, "--quiet"]
        command += [] if self.model is None else ["--model", self.model]
        said = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if said.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}\n{said.stderr}")

    def scores(self, images, words):
        """[labels, h, w] for each image."""
        with tempfile.TemporaryDirectory() as temporary:
            photos, out = Path(temporary) / "photos", Path(temporary) / "out"
            photos.mkdir()
            out.mkdir()
            for i, image in enumerate(images):
                cv2.imwrite(str(photos / f"{i:03}.png"), image[..., ::-1])
            self.run(photos, words, "scores", out)
            return [np.load(out / f"{i:03}.scores.npy") for i in range(len(images))]

    def mask(self, image, words):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            cv2.imwrite(str(folder / "scene.png"), image[..., ::-1])
            self.run(folder / "scene.png", words, "mask", folder)
            return np.array(Image.open(folder / "scene.mask.png"))


def measure(product, name, count):
    styles, nouns, seed = SETS[name]
    source, rng, words, tally = (
        test_scenes(styles, nouns, seed),
        np.random.default_rng([2000, seed]),
        all_words(),
        Tally(),
    )
    row, differing, checked, left = {w: i for i, w in enumerate(words)}, 0, 0, count
    while left:
        chunk = [next(source) for _ in range(min(CHUNK, left))]
        left -= len(chunk)
        for (image, thing, names), scores in zip(chunk, product.scores([image for image, _, _ in chunk], words)):
            asked = questions(rng, thing, names, None if nouns is TRAINED else nouns)

            def mask(labels, scores=scores):
                return scores[[row[w] for w in labels]].argmax(0)

            tally.scene(thing, names, asked, mask)
            if checked < CHECKED:
                labels = [*asked.present, *asked.absent, "other"]
                differing = max(differing, (product.mask(image, labels) != mask(labels)).mean())
                checked += 1
    if differing > 1e-3:
        raise SystemExit(
            f"{name}: the binary's own masks differ from its scores at {100 * differing:.2f} % of the pixels"
        )
    print(name, {k: round(float(v), 4) for k, v in tally.results(nouns).items()}, flush=True)
    return tally


def verdict(value, sign, must, goal):
    reached = [value >= x if sign == ">" else value <= x for x in (goal, must)]
    if reached[0]:
        return "goal"
    return "must" if reached[1] else f"**misses {must} by {abs(value - must):.3f}**"


def results_of(tallies):
    return {name: tally.results(SETS[name][1]) for name, tally in tallies.items()}


def embedded_lines(results, embedded):
    """The claims of the file beside those of the model inside the binary."""
    lines = [
        "## With 8 bits a weight",
        "",
        "The model inside the program has 8 bits a weight, with one scale a row (`crates/demo`). On the same scenes:",
        "",
        "| claim | training styles: float16 | 8 bits | Twemoji: float16 | 8 bits |",
        "|---|---:|---:|---:|---:|",
    ]
    apart = {}
    for text, key, *_ in CLAIMS:
        pairs = [(results[name][key], embedded[name][key]) for name in ("training styles", "Twemoji")]
        apart[text] = max(abs(a - b) for a, b in pairs)
        lines.append(f"| {text} | {' | '.join(f'{a:.4f} | {b:.4f}' for a, b in pairs)} |")
    worst = max(apart, key=apart.get)
    if apart[worst] > CLOSE:
        raise SystemExit(f"{worst}: the model inside the binary is {apart[worst]:.4f} from the file, at most {CLOSE} is allowed")
    return [*lines, "", f"The largest difference is {apart[worst]:.4f} ({worst}); at most {CLOSE} is allowed.", ""]


def report(model, tallies, embedded, count):
    results = results_of(tallies)
    lines = [
        "# What the demo model does, in numbers",
        "",
        f"Made by `weights/train/evaluate.py` through the Rust binary: `{model.name}`, {count} scenes a column (half for",
        f"zero-shot), {SIDE}×{SIDE} pixels, drawn anew (no scene of the training); in each the drawings of one style as their",
        f"package has them. Training styles: {', '.join(TRAINING_STYLES)}. Twemoji was never trained on.",
        "",
        "| claim | training styles | | Twemoji | | must | goal |",
        "|---|---:|---|---:|---|---|---|",
    ]
    known = [results["training styles"], results["Twemoji"]]
    for text, key, sign, *bounds in CLAIMS:
        cells = [f"{r[key]:.3f} | {verdict(r[key], sign, *b)}" for r, b in zip(known, bounds)]
        ends = [" / ".join(dict.fromkeys(f"{b[i]:g}" for b in bounds)) for i in (0, 1)]
        lines.append(f"| {text} | {' | '.join(cells)} | {ends[0]} | {ends[1]} |")
    lines += [
        "",
        'What is offered: (1) every name that is there, eight that are not, "other"; (2) every name that is there, one that is',
        'not, "other"; (3) two nouns and a word for the rest: other, others, background, else, unknown; or one of 30 invented',
        'words that no training stage has seen; (4) a word and "other". A thing counts where it shows at least',
        f"{round(SIDE**2 * 135 / 192**2)} pixels; its IoU is over all scenes that show it.",
        "",
        "| more | training styles | Twemoji |",
        "|---|---:|---:|",
    ]
    shown = {key for _, key, *_ in CLAIMS}
    lines += [f"| {key} | {known[0][key]:.3f} | {known[1][key]:.3f} |" for key in known[0] if key not in shown]
    lines += ["", *embedded_lines(results, results_of(embedded))]
    lines += ["## Each noun and background", "", "| name | training styles | Twemoji |", "|---|---:|---:|"]
    first, second = (tallies[name].ious([*TRAINED, *BACKGROUNDS]) for name in ("training styles", "Twemoji"))
    lines += [
        f"| {n} | {first.get(n, float('nan')):.2f} | {second.get(n, float('nan')):.2f} |"
        for n in [*TRAINED, *BACKGROUNDS]
    ]
    lines += [
        "",
        "## Words that it never saw",
        "",
        f"Scenes with one of {', '.join(HELD_OUT_NAMES)}, which no training scene shows and no label set offers. No claim is made;",
        "with so few nouns to learn from, little is expected.",
        "",
        "| | training styles | Twemoji |",
        "|---|---:|---:|",
    ]
    zero = [results[f"zero-shot, {style}"] for style in ("training styles", "Twemoji")]
    lines.append(
        f'| mIoU beside 8 absent names and "other" | {zero[0]["object mIoU"]:.3f} | {zero[1]["object mIoU"]:.3f} |'
    )
    each = [tallies[f"zero-shot, {style}"].ious(HELD_OUT_NAMES) for style in ("training styles", "Twemoji")]
    lines += [
        f"| {n} | {each[0].get(n, float('nan')):.2f} | {each[1].get(n, float('nan')):.2f} |" for n in HELD_OUT_NAMES
    ]
    licences = [f"{s.name} ({s.made_by}, {s.licence})" for s in STYLES]
    lines += ["", "Drawings: " + ", ".join(licences) + ".", ""]
    return "\n".join(lines)


def store(folder, count):
    """The first scenes of both sets with their truth and questions, for the project's tests."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = []
    for name in ("training styles", "Twemoji"):
        styles, nouns, seed = SETS[name]
        source, rng = test_scenes(styles, nouns, seed), np.random.default_rng([2000, seed])
        for i in range(count):
            image, thing, names = next(source)
            stem = f"{name.split()[0].lower()}-{i:02}"
            cv2.imwrite(str(folder / f"{stem}.png"), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
            cv2.imwrite(str(folder / f"{stem}.truth.png"), thing, [cv2.IMWRITE_PNG_COMPRESSION, 9])
            asked = dataclasses.asdict(questions(rng, thing, names))
            stored.append({"scene": stem, "set": name, "names": names, **{k: plain(v) for k, v in asked.items()}})
    (folder / "scenes.json").write_text(json.dumps(stored, indent=1) + "\n")


def plain(value):
    return [str(v) for v in value] if isinstance(value, list) else (None if value is None else str(value))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=export.PATH)
    parser.add_argument("--binary", type=Path, default=BINARY, help="built with that model inside")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--report", type=Path, default=REPORT)
    parser.add_argument("--store", action="store_true", help="only write the scenes for the project's tests")
    arguments = parser.parse_args()
    if arguments.store:
        return store(DEMO / "scenes", 10)
    refuse_other_models(arguments.model)
    file, embedded = (Product(arguments.binary, model) for model in (arguments.model, None))
    counts = {name: arguments.scenes if "zero" not in name else arguments.scenes // 2 for name in SETS}
    tallies = {name: measure(file, name, counts[name]) for name in SETS}
    inside = {name: measure(embedded, name, counts[name]) for name in ("training styles", "Twemoji")}
    arguments.report.write_text(report(arguments.model, tallies, inside, arguments.scenes))


if __name__ == "__main__":
    main()
