"""Stage `glyphs`: every noun in every style as a small RGBA picture -> cache/glyphs.npz."""

import json

import cv2
import numpy as np
from resvg_py import svg_to_bytes

from sources import CACHE, STYLES, package
from things import GLYPHS

SIDE = 160
"""Pixels of the longer side, before the empty border is cut off."""

PATH = CACHE / "glyphs.npz"

# FxEmojis' own names; what it never drew is not here.
FXEMOJI = {
    "1f436": "dog", "1f415": "dogside", "1f431": "cat", "1f408": "catside", "1f434": "horseface", "1f40e": "horse",
    "1f437": "pig", "1f416": "pigside", "1f418": "elephant", "1f41f": "fish", "1f420": "tropicalfish", "1f438": "frog",
    "1f40c": "snail", "1f697": "automobile", "1f698": "oncomingautomobile", "1f699": "recreationalvehicle",
    "1f68c": "bus", "1f68d": "oncomingbus", "1f69a": "deliverytruck", "1f69b": "articulatedlorry", "1f686": "train",
    "1f682": "steamlocomotive", "2708": "airplane", "26f5": "sailboat", "1f6a4": "speedboat", "1f6a2": "ship",
    "1f6b2": "bicycle", "1f680": "rocket", "1f333": "deciduoustree", "1f332": "evergreen", "1f334": "palmtree",
    "1f339": "rose", "1f33b": "sunflower", "1f337": "tulip", "1f33a": "hibiscus", "1f33c": "blossom",
    "1f338": "cherryblossom", "1f335": "cactus", "1f344": "mushroom", "1f34e": "redapple", "1f34f": "greenapple",
    "1f34c": "banana", "1f353": "strawberry", "1f347": "grapes", "1f355": "sliceofpizza", "1f382": "birthdaycake",
    "1f370": "shortcake", "1f3e0": "housebuilding", "1f3e1": "housewithgarden", "2602": "umbrella",
    "2614": "umbrellawithraindrops", "26f1": "beachumbrella", "26bd": "soccerball", "1f3b8": "guitar",
    "1f43a": "wolfface", "1f410": "goat", "1f695": "taxi", "1f696": "oncomingtaxi", "1f34b": "lemon", "1f350": "pear",
}  # fmt: skip

# What a style is known not to have; anything else that is missing stops the stage.
ABSENT = {
    "noto-v1": {"1f9ae", "1f408-200d-2b1b", "1f9a2"},
    "fxemoji": {code for codes in GLYPHS.values() for code in codes} - set(FXEMOJI),
}


def icon_names(style, folder):
    """Code point -> icon name. The flat sets share their parents' names."""
    if style.name == "fxemoji":
        return FXEMOJI
    source = {"noto-v1": "noto", "fluent": "fluent-flat"}.get(style.name, style.name)
    if source != style.name:
        folder = package(next(s for s in STYLES if s.name == source))
    return json.loads((folder / "chars.json").read_text())


def svg_pictures(style, folder):
    """code point -> RGBA."""
    icons = json.loads((folder / "icons.json").read_text())
    names = icon_names(style, folder)

    def picture(code):
        name = names.get(code) or names.get(f"{code}-fe0f")
        name = icons.get("aliases", {}).get(name, {}).get("parent", name)
        icon = icons["icons"].get(name)
        if icon is None:
            return None
        width, height = (icon.get(key, icons.get(key, 32)) for key in ("width", "height"))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{SIDE}" '
            f'height="{SIDE}" viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">{icon["body"]}</svg>'
        )
        png = bytes(svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE))
        return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)

    return picture


def webp_pictures(folder):
    def picture(code):
        for name in (code, f"{code}-fe0f"):
            path = folder / "assets" / f"{name}.webp"
            if path.exists():
                read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                return cv2.resize(cv2.cvtColor(read, cv2.COLOR_BGRA2RGBA), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return None

    return picture


def cropped(rgba):
    rows, columns = np.where(rgba[..., 3] > 20)
    return rgba[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def main():
    found = {}
    for style in STYLES:
        folder = package(style)
        picture = webp_pictures(folder) if style.name == "fluent-3d" else svg_pictures(style, folder)
        for name, codes in GLYPHS.items():
            for code in codes:
                if code in ABSENT.get(style.name, ()):
                    continue
                rgba = picture(code)
                if rgba is None or np.count_nonzero(rgba[..., 3] > 20) < 200:
                    raise SystemExit(f"{style.package}@{style.version} has no picture of U+{code} ({name})")
                found[f"{name}/{style.name}/{code}"] = cropped(rgba)
        print(f"{style.name}: {sum(f'/{style.name}/' in key for key in found)} glyphs, {style.licence}", flush=True)
    np.savez(PATH.with_suffix(".part.npz"), **found)
    PATH.with_suffix(".part.npz").rename(PATH)


if __name__ == "__main__":
    main()
