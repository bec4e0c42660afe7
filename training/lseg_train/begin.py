"""What training starts from: a network, its weights, the words' tower, the data."""

import math
from dataclasses import dataclass, field

import torch

from . import architecture, files
from .architecture import Unfit
from .config import HeadBlockTable, ModelTable
from .data import open_data
from .errors import Refused
from .network import ImageModel
from .words import Words


@dataclass
class Beginning:
    config: dict
    model: ImageModel
    text: dict
    """The text tower's tensors as their file had them."""
    words: Words
    without_block: int
    """Steps at the beginning that leave the head block out."""
    block_rate: float
    """Of the head block, times the recipe's rate."""
    metadata: dict = field(default_factory=dict)
    """What start file and text tower say of themselves."""


def beginning(config):
    """Network, starting weights and words of a Config."""
    start = config.file.start
    torch.manual_seed(config.recipe.seed)
    if start.file and start.encoder:
        raise Refused("start.file and start.encoder are both there; one of them is expected")
    program = files.program(config.file.program)
    source = files.read_model(config.within(start.file), program) if start.file else None
    text = text_of(config, source)
    try:
        numbers = from_file(config, source, text) if source else described(config, text)
        model, words = ImageModel(numbers), Words(text.numbers, text.embed_dim, text.tensors)
    except Unfit as why:
        raise Refused(f"{config.path}: model: {why}") from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # whatever a stranger's numbers raise
        found = str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
        raise Refused(
            f"{start.file or start.text}: numbers and tensors of one network are expected ({found})"
        ) from None
    block = config.file.model.head_block
    if model.regularised and block and block.start == "identity":
        model.scratch.head_block.start_as_identity()
    if source:
        files.load_image(model, source.image, start.file, files.FILE_LACKS if block else ())
    elif start.encoder:
        weights = files.grid_resized(files.encoder(start.encoder, numbers), numbers["image"].get("grid"))
        files.load_image(model, weights, start.encoder, files.ENCODER_LACKS)
    trained = source is not None and any(k.startswith(files.FILE_LACKS) for k in source.image)
    block = block or HeadBlockTable()
    without = block.after if model.regularised and not trained else 0
    metadata = files.carried(source.metadata if source else {}, text.metadata)
    return Beginning(numbers, model, text.tensors, words, without, block.rate, metadata)


def refuse_crop(recipe, begun):
    """The network computes squares of whole steps alone."""
    step = architecture.step(begun.config)
    if recipe.crop % step:
        raise Refused(f"train.crop is {recipe.crop}, a multiple of {step} (the network's step) is expected")


def text_of(config, source):
    """The tower: of `start.text`, else of the start file."""
    named = config.file.start.text
    if not named:
        if not source:
            raise Refused(f"{config.path}: start.text is missing: a text tower (a file of ours, or CLIP's) is expected")
        return files.TextTowerFile(source.config["text"], source.config["embed_dim"], source.text, {})
    text = files.text_tower(config.within(named))
    if source and source.config["embed_dim"] != text.embed_dim:
        own = source.config["embed_dim"]
        raise Refused(
            f"C differs: {config.file.start.file} has embeddings of {own} numbers, the text tower {named} of "
            f"{text.embed_dim}; a tower with {own} is expected (leave start.text out for the file's own)"
        )
    return text


def block_of(config):
    table = config.file.model.head_block
    if table is None:
        return None
    if table.start not in ("identity", "published"):
        raise Unfit(f"head_block.start is {table.start!r}, identity or published is expected")
    if table.after < 0 or not 0 <= table.rate < math.inf:
        raise Unfit(f"head_block.after is {table.after} and rate {table.rate}, 0 or more are expected")
    return architecture.head_block(table.kind, table.depth, table.activation, table.tied)


def from_file(config, source, text):
    """The file's network, with the tower that is used; a [model.head_block] replaces its own."""
    table, usual = vars(config.file.model), vars(ModelTable())
    given = {k for k in table if table[k] != usual[k]} - {"head_block"}
    if given:
        raise Unfit(
            f"{', '.join(sorted(given))} is set, but start.file describes the network; only head_block may be set "
            "beside it"
        )
    return source.config | {"text": text.numbers, "head_block": block_of(config) or source.config["head_block"]}


def described(config, text):
    """A network from [model]'s numbers."""
    table, recipe = config.file.model, config.recipe
    numbers = {
        "encoder": table.encoder or "vit",
        **{k: getattr(table, k) for k in ("width", "depth", "patch", "stem", "blocks", "planes")},
    }
    reassemble, grid = table.reassemble, table.grid
    if table.preset:
        if table.preset not in architecture.PRESETS:
            raise Unfit(f"preset is {table.preset!r}, one of {', '.join(architecture.PRESETS)} is expected")
        numbers |= architecture.PRESETS[table.preset]
        numbers["encoder"] = numbers.pop("kind")
        grid, reassemble = grid or numbers.get("grid", 0), reassemble or numbers.get("reassemble")
    if numbers["encoder"] == "vit":
        grid = grid or recipe.crop // numbers["patch"]
        image = architecture.vit(numbers["width"], numbers["depth"], numbers["patch"], grid, table.mlp)
    elif numbers["encoder"] == "resnet":
        image = architecture.resnet(numbers["stem"], numbers["blocks"], numbers["planes"])
    else:
        raise Unfit(f"encoder is {numbers['encoder']!r}, vit or resnet is expected")
    if reassemble is not None and len(reassemble) != 4:
        raise Unfit(f"reassemble is {reassemble}, four numbers are expected")
    return architecture.network(
        image, table.features, text.numbers, text.embed_dim, reassemble, block_of(config), table.mean, table.std, recipe.crop,
        table.preset or "custom",
    )  # fmt: skip


def data_of(config):
    """(training sets, validation sets); refuses missing files."""
    return tuple(
        [open_data(table, config.root) for table in tables] for tables in (config.file.data, config.file.validation)
    )
