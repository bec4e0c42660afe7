"""Where the glyphs come from: packages of the npm registry, pinned by version and SHA-256, with their licences."""

import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE / "cache"
OUT = HERE / "out"
DEMO = HERE.parent / "demo"


@dataclass(frozen=True)
class Style:
    name: str
    package: str
    version: str
    sha256: str
    licence: str
    made_by: str
    training: bool


# fmt: off
STYLES = [
    Style("noto", "@iconify-json/noto", "1.2.9",
          "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad", "Apache-2.0", "Google (Noto Emoji)", True),
    Style("noto-v1", "@iconify-json/noto-v1", "1.2.5",
          "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37", "Apache-2.0", "Google (Noto Emoji v1)", True),
    Style("fluent", "@iconify-json/fluent-emoji", "1.2.7",
          "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b", "MIT", "Microsoft (Fluent Emoji)", True),
    Style("fluent-flat", "@iconify-json/fluent-emoji-flat", "1.2.6",
          "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175", "MIT", "Microsoft (Fluent Emoji)", True),
    Style("fluent-3d", "@lobehub/fluent-emoji-3d", "1.1.0",
          "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58", "MIT", "Microsoft (Fluent Emoji)", True),
    Style("fxemoji", "@iconify-json/fxemoji", "1.2.2",
          "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef", "Apache-2.0", "Mozilla (FxEmojis)", True),
    Style("twemoji", "@iconify-json/twemoji", "1.2.5",
          "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7", "CC-BY-4.0", "Twitter and contributors (Twemoji)", False),
]
# fmt: on
TRAINING_STYLES = [s.name for s in STYLES if s.training]
TEST_STYLES = [s.name for s in STYLES if not s.training]


def package(style: Style) -> Path:
    """The unpacked package, fetched with npm where it is not there yet; stops where its checksum is another."""
    folder = CACHE / "npm" / f"{style.name}-{style.version}"
    if folder.exists():
        return folder
    (CACHE / "npm").mkdir(parents=True, exist_ok=True)
    spec = f"{style.package}@{style.version}"
    try:
        said = subprocess.run(["npm", "pack", spec, "--json"], cwd=CACHE / "npm", check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{spec} cannot be fetched with npm ({error}); {style.name} glyphs need it") from None
    tarball = CACHE / "npm" / json.loads(said.stdout)[0]["filename"]
    found = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if found != style.sha256:
        raise SystemExit(f"{tarball.name} has SHA-256 {found}, {style.sha256} is expected; the package is another one")
    part = folder.with_suffix(".part")
    with tarfile.open(tarball) as archive:
        archive.extractall(part, filter="data")
    (part / "package").rename(folder)
    return folder
