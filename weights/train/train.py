"""Makes the demo weights: `python train.py STAGE`, or `python train.py all` for every stage in turn.

A stage that is already done is skipped by `all`; a stopped one goes on where it was."""

import subprocess
import sys

import glyphs
import image
import tower
from scenes import FOLDER
from sources import HERE

STAGES = {
    "glyphs": ([["glyphs.py"]], glyphs.PATH.exists),
    "scenes": ([["scenes.py", "--shards", "60"]], lambda: len(list(FOLDER.glob("*.names.json"))) >= 60),
    "text": ([["text.py"]], tower.PATH.exists),
    "image": ([["image.py", "--steps", "20000"], ["image.py", "--anneal", "2500"]], image.RESULT.exists),
    "export": ([["export.py"]], lambda: False),
    "evaluate": ([["evaluate.py"], ["evaluate.py", "--store"], ["golden.py"]], lambda: False),
}


def main():
    asked = sys.argv[1:2]
    if not asked or asked[0] not in [*STAGES, "all"]:
        raise SystemExit(f"usage: python train.py {'|'.join(STAGES)}|all")
    for name in STAGES if asked == ["all"] else asked:
        commands, done = STAGES[name]
        if asked == ["all"] and done():
            print(f"{name}: done before")
            continue
        for command in commands:
            ended = subprocess.run([sys.executable, *command], cwd=HERE)
            if ended.returncode:
                raise SystemExit(f"stage {name} stopped; what it had done is kept, start it again to go on")


if __name__ == "__main__":
    main()
