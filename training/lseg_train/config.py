"""CONFIG.toml: read strictly. An unknown key or a value of another type is refused with its line."""

import dataclasses
import json
import re
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

from .data import DataTable
from .errors import Refused
from .recipes import Recipe, resolved


@dataclass(frozen=True)
class HeadBlockTable:
    kind: str = "none"
    depth: int = 1
    activation: str = "lrelu"
    tied: bool = True
    start: str = "identity"
    """"identity" or "published" (PyTorch's own)."""
    after: int = 100
    """Steps without it at the beginning."""
    rate: float = 1.0
    """Times the recipe's rate; the published code has 10, its decoder's."""


@dataclass(frozen=True)
class ModelTable:
    """Of a network that no start file describes."""

    preset: str | None = None
    encoder: str | None = None
    width: int = 768
    depth: int = 12
    patch: int = 16
    grid: int = 0
    """Side of the ViT's position grid; 0: the crop's."""
    mlp: int | None = None
    stem: int = 64
    blocks: list[int] = field(default_factory=lambda: [3, 4, 6, 3])
    planes: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    reassemble: list[int] | None = None
    features: int = 256
    mean: list[float] | None = None
    std: list[float] | None = None
    head_block: HeadBlockTable | None = None


@dataclass(frozen=True)
class StartTable:
    file: str | None = None
    encoder: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class RunTable:
    minutes: float = 10.0
    """Between two states on the disk."""
    workers: int = 2
    """Processes that read photos, beside each training process; 0: none."""
    device: str = "auto"
    threads: int = 0
    """Of PyTorch on the CPU; 0: as it chooses."""
    log_every: int = 20
    size: int = 0
    """Longer side of validation's photos; 0: the crop."""


@dataclass(frozen=True)
class File:
    """The whole file as it is typed."""

    recipe: str = "finetune"
    out: str = "run"
    program: str | None = None
    licence: str = ""
    model: ModelTable = field(default_factory=ModelTable)
    start: StartTable = field(default_factory=StartTable)
    data: list[DataTable] = field(default_factory=list)
    validation: list[DataTable] = field(default_factory=list)
    train: dict = field(default_factory=dict)
    run: RunTable = field(default_factory=RunTable)


@dataclass(frozen=True)
class Config:
    path: Path
    file: File
    recipe: Recipe

    @property
    def root(self):
        """What paths in the file are relative to."""
        return self.path.parent

    def within(self, path):
        return self.root / path

    @property
    def out(self):
        return self.within(self.file.out)

    def identity(self):
        """What a run that goes on must have in common with its beginning: everything that weights depend on."""
        parts = dataclasses.asdict(self.file)
        for key in ("out", "program", "run", "licence", "validation", "train"):
            del parts[key]
        return json.loads(json.dumps(parts | {"train": dataclasses.asdict(self.recipe)}))


HEADER = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
KEY = re.compile(r"^\s*[\"']?([\w-]+)[\"']?\s*=")


def refuse_run(run):
    """Numbers of [run] that nothing can be done with."""
    for key in ("minutes", "workers", "threads", "size"):
        if not 0 <= getattr(run, key) < 1 << 31:
            raise Refused(f"run.{key} is {getattr(run, key)}, 0 or more is expected")
    if run.log_every < 1:
        raise Refused(f"run.log_every is {run.log_every}, 1 or more is expected")
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", run.device):
        raise Refused(f"run.device is {run.device!r}, auto, cpu, cuda or cuda:N is expected")


class Lines:
    """Where each key stands, for messages: (table, which of several, key) -> line."""

    def __init__(self, path, text):
        self.path, self.of, self.counts, table = path, {}, {}, ""
        for number, line in enumerate(text.splitlines(), 1):
            if header := HEADER.match(line):
                table = header[1].replace(" ", "")
                self.counts[table] = self.counts.get(table, -1) + 1
                self.of.setdefault((table, self.counts[table], ""), number)
            elif key := KEY.match(line):
                self.of.setdefault((table, self.counts.get(table, 0), key[1]), number)

    def at(self, table, index, key):
        inner = f"{table}.{key}" if table else key
        line = self.of.get((table, index, key)) or self.of.get((inner, index, "")) or self.of.get((table, index, ""))
        return f"{self.path}, line {line}" if line else str(self.path)


def said(hint):
    """A type in words."""
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}
    if hint in names:
        return names[hint]
    inner = [h for h in typing.get_args(hint) if h is not type(None)]
    if typing.get_origin(hint) is list:
        return f"a list ([{said(inner[0]).split(' ')[-1]}, …])"
    return said(inner[0]) if isinstance(hint, types.UnionType) else "a table"


def fits(value, hint):
    if isinstance(hint, types.UnionType):
        return any(fits(value, h) for h in typing.get_args(hint) if h is not type(None))
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(fits(v, inner[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(v, inner[1]) for v in value.values())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def table_of(hint):
    """The dataclass of a nested table, if the hint is one."""
    inner = next((h for h in typing.get_args(hint) if h is not type(None)), hint)
    return inner if dataclasses.is_dataclass(inner) else None


def checked(kind, content, lines, table="", index=0, only_given=False):
    """A dict as the dataclass `kind`; with `only_given` as a dict of what was given."""
    hints = typing.get_type_hints(kind)
    given = {}
    for key, value in content.items():
        where = lines.at(table, index, key)
        name = f"{table}.{key}" if table else key
        if key not in hints:
            raise Refused(f"{where}: {name} is not known; known are {', '.join(hints)}")
        hint, inner = hints[key], table_of(hints[key])
        if inner and typing.get_origin(hint) is list:
            if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
                raise Refused(f"{where}: {name} is expected as tables, [[{name}]]")
            given[key] = [checked(inner, v, lines, name, i) for i, v in enumerate(value)]
        elif inner:
            if not isinstance(value, dict):
                raise Refused(f"{where}: {name} is expected as a table, [{name}]")
            given[key] = checked(inner, value, lines, name, 0)
        elif not fits(value, hint):
            raise Refused(f"{where}: {name} is {value!r}, {said(hint)} is expected")
        else:
            given[key] = float(value) if hint is float else value
    return given if only_given else kind(**given)


def read(path):
    """-> Config. Refuses what is unknown or of another type, with its line."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read ({error}); a TOML file is expected") from None
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path} is no TOML: {error}") from None
    lines = Lines(path, text)
    file = checked(File, content, lines)
    train = checked(Recipe, file.train, lines, "train", only_given=True)
    refuse_run(file.run)
    if not file.data:
        raise Refused(f"{path} has no [[data]]; a table that says where photos and masks are is expected")
    return Config(path, file, resolved(file.recipe, train))
