"""The command `lseg-train`."""

import argparse
import sys
from pathlib import Path

from . import config as configuration
from .errors import Refused

EXAMPLES = """examples:
  lseg-train check mine.toml                     # reads everything, trains nothing; contact sheet beside the run
  lseg-train fit mine.toml                       # again: goes on where it stopped
  torchrun --nproc-per-node 8 -m lseg_train fit mine.toml
  lseg-train export mine.toml --to mine.safetensors
  lseg-fast run photo.jpg --labels "dog,grass,other" --model mine.safetensors

training/README.md says what CONFIG.toml may hold."""


def parser():
    top = argparse.ArgumentParser(
        prog="lseg-train", description="Trains LSeg: photos and words in, a file for lseg-fast out.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, does in (
        ("check", "read data, words and starting weights without training; find what fit would die of"),
        ("fit", "train, or go on where a run stopped"),
        ("export", "write a run's best file with all that its users should know"),
    ):
        command = commands.add_parser(name, help=does, description=does.capitalize() + ".", epilog=EXAMPLES,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
        command.add_argument("config", type=Path, metavar="CONFIG.toml")
    command.add_argument(
        "--from", dest="source", default="best", metavar="best|last|FILE", help="which file of the run [best]"
    )
    command.add_argument("--to", type=Path, metavar="FILE", help="[CONFIG's name in the run's folder]")
    command.add_argument("--type", choices=("f16", "f32"), default="f16", help="of the weights [f16]")
    return top


def run(asked):
    """-> exit code."""
    config = configuration.read(asked.config)
    if asked.command == "check":
        from .check import check

        return check(config)
    if asked.command == "fit":
        from .fit import fit

        return fit(config)
    from .export import export

    export(config, asked.source, asked.to, asked.type == "f16")
    return 0


def main():
    asked = parser().parse_args()
    try:
        return run(asked)
    except Refused as why:
        print(f"error: {why}", file=sys.stderr)
        return 1
    except OSError as why:  # a folder that is a file, a disk that is full: the system's words name the path
        print(f"error: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
