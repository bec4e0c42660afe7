"""What training starts from: our files, published checkpoints, encoders of timm and torchvision, CLIP's towers."""

import json

import numpy as np
import pytest
import torch
from conftest import DEMO, REPOSITORY, configuration
from safetensors.torch import save_file

from lseg_train import architecture, files
from lseg_train.begin import beginning, refuse_crop
from lseg_train.config import read
from lseg_train.errors import Refused
from lseg_train.network import ImageModel
from lseg_train.recipes import resolved


def begun(tmp_path, tree, **what):
    return beginning(read(configuration(tmp_path / "c", tree, **what)))


def clip_state(width=128, embed_dim=96, layers=2):
    """As CLIP's files have it: an image tower beside the text tower, float16."""
    block, generator = {}, torch.Generator().manual_seed(0)
    for i in range(layers):
        p = f"transformer.resblocks.{i}."
        block |= {p + "attn.in_proj_weight": (3 * width, width), p + "attn.in_proj_bias": (3 * width,)}
        block |= {p + "attn.out_proj.weight": (width, width), p + "attn.out_proj.bias": (width,)}
        block |= {p + f"ln_{k}.{n}": (width,) for k in (1, 2) for n in ("weight", "bias")}
        block |= {p + "mlp.c_fc.weight": (4 * width, width), p + "mlp.c_fc.bias": (4 * width,)}
        block |= {p + "mlp.c_proj.weight": (width, 4 * width), p + "mlp.c_proj.bias": (width,)}
    shapes = block | {"token_embedding.weight": (49408, width), "positional_embedding": (77, width)}
    shapes |= {"ln_final.weight": (width,), "ln_final.bias": (width,), "text_projection": (width, embed_dim)}
    shapes |= {"logit_scale": (), "visual.proj": (8, 4)}
    return {k: (0.1 * torch.randn(s, generator=generator)).half() for k, s in shapes.items()}


def test_clips_text_tower(tmp_path, tree):
    for name in ("clip.pt", "clip.safetensors"):
        (torch.save if name.endswith(".pt") else save_file)(clip_state(), tmp_path / name)
        start = begun(tmp_path, tree, start=f'text = "{tmp_path / name}"')
        assert start.config["embed_dim"] == 96 and start.config["text"]["heads"] == 2
        assert start.words(["a dog"]).shape == (1, 96)
        assert "visual.proj" not in start.text and start.text["text_projection"].dtype == torch.float16


def scripted(state):
    """A TorchScript module with these parameters, as OpenAI's CLIP files are."""
    root = torch.nn.Module()
    for key, value in state.items():
        *path, name = key.split(".")
        place = root
        for part in path:
            if not hasattr(place, part):
                place.add_module(part, torch.nn.Module())
            place = getattr(place, part)
        place.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
    return torch.jit.script(root)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_clips_text_tower_in_a_torchscript_archive(tmp_path):
    state = clip_state()
    scripted(state).save(str(tmp_path / "clip.pt"))
    found = files.text_tower(tmp_path / "clip.pt")
    text = found.tensors
    assert found.embed_dim == 96 and found.numbers["layers"] == 2
    assert text.keys() == {k for k in state if k != "logit_scale" and not k.startswith("visual")}
    assert all(torch.equal(text[k], state[k]) for k in text)


@pytest.mark.parametrize("name", ["ViT-B/32", "ViT-B/16", "RN50x4", "RN50x16"])
def test_sizes_of_clips_towers(name, tmp_path):
    width, layers, heads, embed_dim = architecture.CLIP_TEXT[name]
    state = {
        k: v.expand(s)
        for k, v, s in ((k, torch.zeros(()), tuple(v.shape)) for k, v in clip_state(width, embed_dim, 1).items())
    }
    state |= {k.replace(".0.", f".{i}."): v for i in range(layers) for k, v in state.items() if "resblocks.0" in k}
    torch.save(state, tmp_path / "clip.pt")
    found = files.text_tower(tmp_path / "clip.pt")
    numbers = found.numbers
    assert (numbers["width"], numbers["layers"], numbers["heads"], found.embed_dim) == (width, layers, heads, embed_dim)


def test_a_file_of_ours_and_its_text_tower_come_out_as_they_were(tmp_path, tree):
    start = begun(tmp_path, tree, encoder=None, start=f'file = "{DEMO}"')
    tensors, metadata = files.read_tensors(DEMO)
    out = tmp_path / "out.safetensors"
    files.write_model(out, start.config, files.image_tensors(start.model.state_dict(), half=True), start.text, metadata)
    again = files.read_tensors(out)[0]
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[k], tensors[k]) and again[k].dtype == tensors[k].dtype for k in tensors)


def test_a_published_checkpoint_through_convert(program, tmp_path, tree):
    checkpoint = REPOSITORY / "tests/golden/checkpoint/lightning_vit.ckpt"
    model = files.read_model(checkpoint, str(program))
    files.load_image(ImageModel(model.config), model.image, checkpoint)
    assert model.config["image"]["kind"] == "vit" and model.text
    with pytest.raises(Refused, match="convert.*program"):
        files.read_model(checkpoint, None)


def test_timms_vit_with_another_grid(tmp_path, tree):
    """timm's names, a position grid of 4×4 where the network has 6×6, a classifier that is not needed."""
    numbers = architecture.network(architecture.vit(64, 4, 16, 4), 32, {}, 256)
    model = ImageModel(numbers | {"embed_dim": 256})
    state = {k.removeprefix("pretrained.model."): v for k, v in model.state_dict().items() if "pretrained.model." in k}
    torch.save(state | {"norm.weight": torch.ones(64), "head.weight": torch.ones(5, 64)}, tmp_path / "vit.pth")
    start = begun(tmp_path, tree, encoder="vit", start=f'text = "{DEMO}"\nencoder = "{tmp_path / "vit.pth"}"')
    own = start.model.state_dict()
    assert torch.equal(own["pretrained.model.blocks.3.mlp.fc2.weight"], state["blocks.3.mlp.fc2.weight"])
    assert own["pretrained.model.pos_embed"].shape == (1, 37, 64)
    assert torch.equal(own["pretrained.model.pos_embed"][:, 0], state["pos_embed"][:, 0])
    torch.save(state | {"reg_token": torch.ones(1, 4, 64)}, tmp_path / "vit.pth")
    with pytest.raises(Refused, match="tokens beside the class token"):
        begun(tmp_path, tree, encoder="vit", start=f'text = "{DEMO}"\nencoder = "{tmp_path / "vit.pth"}"')


def test_torchvisions_resnet(tmp_path, tree):
    model = ImageModel(architecture.network(architecture.resnet(16, [1, 1, 1, 1], [8, 16, 32, 32]), 32, {}, 256))
    back = {
        "pretrained.layer1.0.": "conv1.",
        "pretrained.layer1.1.": "bn1.",
        "pretrained.layer1.4.": "layer1.",
        "pretrained.": "",
    }
    state = {}
    for key, value in model.state_dict().items():
        prefix = next((p for p in back if key.startswith(p)), None)
        if prefix:
            state[back[prefix] + key[len(prefix) :]] = torch.randn_like(value.float())
    save_file(state | {"fc.weight": torch.ones(3, 128)}, tmp_path / "resnet.safetensors")
    start = begun(tmp_path, tree, start=f'text = "{DEMO}"\nencoder = "{tmp_path / "resnet.safetensors"}"')
    own = start.model.state_dict()
    assert torch.equal(own["pretrained.layer1.0.weight"], state["conv1.weight"])
    assert torch.equal(own["pretrained.layer1.4.0.bn3.running_var"], state["layer1.0.bn3.running_var"])
    assert torch.equal(own["pretrained.layer4.0.downsample.0.weight"], state["layer4.0.downsample.0.weight"])
    assert start.config["mean"] == [0.485, 0.456, 0.406]


def test_refusals(tmp_path, tree):
    save_file(clip_state(), tmp_path / "clip.safetensors")
    half = files.read_tensors(DEMO)
    del half[0]["scratch.head1.weight"]
    save_file({k: v.contiguous() for k, v in half[0].items()}, tmp_path / "half.safetensors", metadata=half[1])
    (tmp_path / "torn.safetensors").write_bytes(DEMO.read_bytes()[:5000])
    for start, why in (
        (f'file = "{DEMO}"\ntext = "{tmp_path}/clip.safetensors"', "C differs.*256.*96"),
        (f'file = "{tmp_path}/half.safetensors"', "has no scratch.head1.weight"),
        (f'file = "{tmp_path}/torn.safetensors"', "torn.safetensors is no safetensors file"),
        (f'file = "{tmp_path}/none.safetensors"', "none.safetensors is not there"),
    ):
        with pytest.raises(Refused, match=why):
            begun(tmp_path, tree, encoder=None, start=start)
    with pytest.raises(Refused, match=r"train.crop is 80, a multiple of 32"):
        refuse_crop(resolved("finetune", {"crop": 80}), begun(tmp_path, tree))
    with pytest.raises(Refused, match="start.text is missing"):
        begun(tmp_path, tree, start="")
    with pytest.raises(Refused, match="only head_block"):
        begun(tmp_path, tree, start=f'file = "{DEMO}"')


def test_what_is_not_finite_is_not_written(tmp_path):
    model = files.read_model(DEMO)
    key = "scratch.head1.weight"
    for value, half in ((float("nan"), False), (1e6, True)):
        image = dict(model.image)
        image[key] = image[key].clone()
        image[key][0, 0] = value
        with pytest.raises(Refused, match=f"{key} holds values that are not finite"):
            files.write_model(
                tmp_path / "m.safetensors", model.config, files.image_tensors(image, half), model.text, {}
            )
    assert not list(tmp_path.iterdir())


def test_a_head_block_is_added_to_a_file_without(tmp_path, tree):
    model = '\n[model.head_block]\nkind = "bottleneck"\ndepth = 2\nafter = 7\n'
    start = begun(tmp_path, tree, encoder=None, start=f'file = "{DEMO}"{model}')
    assert start.model.regularised and start.without_block == 7
    kernel = start.model.scratch.head_block.depthwise.depthwise.weight
    assert np.array_equal(kernel.detach()[0, 0], [[0, 0, 0], [0, 1, 0], [0, 0, 0]])


def test_another_text_tower_comes_with_its_numbers(tmp_path, tree):
    """Of the same C, but of other sizes than the start file's own."""
    save_file(clip_state(embed_dim=256), tmp_path / "clip.safetensors")
    start = begun(tmp_path, tree, encoder=None, start=f'file = "{DEMO}"\ntext = "{tmp_path}/clip.safetensors"')
    assert start.config["text"] == dict(vocab=49408, context=77, width=128, layers=2, heads=2, mlp=512)
    assert start.words(["dog"]).shape == (1, 256)


def changed(path, change, metadata=None):
    tensors, before = files.read_tensors(DEMO)
    save_file(change({k: v.contiguous() for k, v in tensors.items()}), path, metadata=before | (metadata or {}))


@pytest.mark.parametrize(
    ("config", "why"),
    [("{", "cannot be read"), ("[]", "has no image"), ("{}", "has no image"), ("7", "cannot be read")],
)
def test_strangers_configurations_are_refused(tmp_path, tree, config, why):
    changed(tmp_path / "m.safetensors", lambda t: t, {"lseg-fast.config": config})
    with pytest.raises(Refused, match=f"m.safetensors.*{why}"):
        begun(tmp_path, tree, encoder=None, start=f'file = "{tmp_path}/m.safetensors"')


def test_strangers_tensors_and_numbers_are_refused(tmp_path, tree):
    changed(tmp_path / "m.safetensors", lambda t: {k: v for k, v in t.items() if "ln_final" not in k})
    own = files.read_model(DEMO).config
    for number, path in enumerate(({"image": {"kind": "vit"}}, {"text": {"vocab": 5120}}, {"features": -3})):
        changed(tmp_path / f"{number}.safetensors", lambda t: t, {"lseg-fast.config": json.dumps(own | path)})
    for name in ("m", 0, 1, 2):
        with pytest.raises(Refused, match=f"{name}.safetensors: numbers and tensors of one network"):
            begun(tmp_path, tree, encoder=None, start=f'file = "{tmp_path}/{name}.safetensors"')
    state = clip_state()
    del state["ln_final.weight"]
    save_file(state, tmp_path / "clip.safetensors")
    with pytest.raises(Refused, match="clip.safetensors: numbers and tensors"):
        begun(tmp_path, tree, start=f'text = "{tmp_path}/clip.safetensors"')


@pytest.mark.parametrize("numbers", ["mean = [0.5]", "std = [0.5, 0.5, 0.0]", "reassemble = [8, 8, 0, 8]", "mlp = -4"])
def test_numbers_out_of_range_are_refused(tmp_path, tree, numbers):
    with pytest.raises(Refused, match=f"model: {numbers.split(' ')[0] if 'std' not in numbers else 'mean'} is"):
        begun(tmp_path, tree, encoder="vit", model=numbers + "\n")


def test_a_program_that_is_not_there_is_told_before_training(tmp_path, tree):
    with pytest.raises(Refused, match="program = 'no-such-program' is not there"):
        begun(tmp_path, tree, top='program = "no-such-program"\n')
