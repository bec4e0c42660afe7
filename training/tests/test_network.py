"""The one definition of the network: beside the plain reference of tests/golden, beside finite differences, as the
demo."""

import copy
import importlib.util
import json
import struct
import sys

import pytest
import torch
from conftest import DEMO, REPOSITORY
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from lseg_train import architecture
from lseg_train.loss import cross_entropy, full_size_scores
from lseg_train.network import ImageModel, TextTower

TEXT = {"vocab": 520, "context": 8, "width": 64, "layers": 2, "heads": 1, "mlp": 256}
VIT = architecture.vit(64, 4, 16, 4)
RESNET = architecture.resnet(16, [1, 2, 1, 1], [8, 16, 24, 32])


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def config(image, block):
    return architecture.network(image, 32, TEXT, 48, [16, 24, 32, 40], block)


def shaken(model, seed=0):
    """Weights and statistics that are none of the start's zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            noise = 0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
            value.copy_(noise.abs() + 0.5 if "running_var" in key else value + noise)
    return model


@pytest.mark.parametrize("image", [VIT, RESNET, architecture.vit(128, 8, 32, 3)], ids=["vit16", "resnet", "vit32"])
@pytest.mark.parametrize("block", [("none", 0, "relu"), ("depthwise", 3, "tanh"), ("bottleneck", 2, "lrelu")])
def test_it_is_the_reference_under_the_published_names(image, block):
    reference = module(REPOSITORY / "tests/golden/lseg_reference.py")
    numbers = config(image, architecture.head_block(*block))
    ours = shaken(ImageModel(numbers)).eval().double()
    theirs = reference.Lseg(numbers).double()
    tower = shaken(TextTower(48, **TEXT), 1).eval().double()
    state = ours.state_dict() | {f"clip_pretrained.{k}": v for k, v in tower.state_dict().items()}
    found = theirs.load_state_dict(state, strict=False)
    assert not found.unexpected_keys
    unused = (
        "clip_pretrained.visual.",
        "clip_pretrained.logit_scale",
        "pretrained.model.norm.",
        "pretrained.model.head.",
    )
    assert all(k.startswith((*unused, "scratch.refinenet4.resConfUnit1")) for k in found.missing_keys)
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    tokens = torch.tensor([[518, 5, 6, 519, 0, 0, 0, 0], [518, 7, 519, 0, 0, 0, 0, 0], [518, 9, 8, 7, 6, 5, 4, 519]])
    with torch.no_grad():
        text = theirs.clip_pretrained(tokens)
        assert torch.allclose(tower(tokens), text, atol=1e-12)
        scores = theirs.score(theirs.decode(theirs.encode(x)[1]), text)[2]
        mine = full_size_scores(ours, x, F.normalize(text, dim=1)[None])
    assert mine.shape == scores.shape == (2, 3, 64, 96)
    assert (mine - scores).abs().max() < 1e-9 * scores.abs().max()


@pytest.mark.parametrize("image", [VIT, RESNET], ids=["vit", "resnet"])
def test_labels_that_are_not_offered_change_nothing(image):
    model = shaken(ImageModel(config(image, architecture.head_block("bottleneck", 2, "relu")))).eval()
    x, texts = torch.randn(2, 3, 64, 64), F.normalize(torch.randn(2, 5, 48), dim=-1)
    offered = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)[..., None, None]
    with torch.no_grad():
        some = full_size_scores(model, x, texts, offered)
        assert torch.allclose(some[:1, :3], full_size_scores(model, x[:1], texts[:1, :3]), atol=1e-4)
        assert (some[0, 3:] < -1e3).all()


def whole_loss(model, x, texts, offered, answers):
    return cross_entropy(full_size_scores(model, x, texts, offered), answers) / (answers >= 0).sum()


@pytest.mark.parametrize("block", [("none", 0, "relu"), ("bottleneck", 2, "lrelu"), ("depthwise", 2, "tanh")])
@pytest.mark.parametrize("image", [VIT, RESNET], ids=["vit", "resnet"])
def test_gradients_are_finite_differences(image, block):
    """Twenty weights of the whole loss, in float64, batch statistics included."""
    torch.manual_seed(0)
    model = shaken(ImageModel(config(image, architecture.head_block(*block)))).double().train()
    x, texts = (
        torch.randn(2, 3, 64, 64, dtype=torch.float64),
        F.normalize(torch.randn(2, 4, 48, dtype=torch.float64), dim=-1),
    )
    offered = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.bool)[..., None, None]
    answers = torch.randint(-1, 3, (2, 64, 64))
    whole_loss(model, x, texts, offered, answers).backward()
    parameters = [p for p in model.parameters() if p.grad is not None and p.grad.abs().max() > 1e-6]
    generator, worst = torch.Generator().manual_seed(1), 0.0
    for i in range(20):
        parameter = parameters[int(torch.randint(len(parameters), (), generator=generator))]
        place = (
            parameter.grad.abs().flatten().argmax()
            if i % 2
            else torch.randint(parameter.numel(), (), generator=generator)
        )
        with torch.no_grad():
            flat, sides = parameter.view(-1), []
            for side in (1e-6, -2e-6):
                flat[place] += side
                sides.append(whole_loss(model, x, texts, offered, answers))
            flat[place] += 1e-6
        expected, found = ((sides[0] - sides[1]) / 2e-6).item(), parameter.grad.view(-1)[place].item()
        worst = max(worst, abs(found - expected) / max(abs(expected), 1e-3))
    assert worst < 1e-4


def test_recomputed_blocks_have_the_same_gradients():
    torch.manual_seed(0)
    model = ImageModel(config(VIT, None)).train()
    again = copy.deepcopy(model)
    again.recompute(True)
    x, texts, answers = (
        torch.randn(2, 3, 64, 64),
        F.normalize(torch.randn(1, 4, 48), dim=-1),
        torch.randint(0, 4, (2, 64, 64)),
    )
    for m in (model, again):
        whole_loss(m, x, texts, None, answers).backward()
    for a, b in zip(model.parameters(), again.parameters()):
        assert (a.grad is None) == (b.grad is None) and (a.grad is None or torch.equal(a.grad, b.grad))


@pytest.mark.parametrize("image", [VIT, RESNET], ids=["vit", "resnet"])
def test_cosines_and_loss_are_float32_where_the_network_is_not(image):
    """Under autocast to bfloat16, as on CUDA."""
    torch.manual_seed(0)
    model = ImageModel(config(image, architecture.head_block("bottleneck", 2))).train()
    x, texts = torch.randn(2, 3, 64, 64), F.normalize(torch.randn(1, 4, 48), dim=-1)
    seen = []
    model.scratch.head_block.depthwise.depthwise.register_forward_hook(
        lambda _, given, out: seen.append((given[0].dtype, out.dtype))
    )
    with torch.autocast("cpu", torch.bfloat16):
        path = model(x)
        scores = full_size_scores(model, x, texts)
    assert (
        path.dtype == torch.bfloat16 and scores.dtype == torch.float32 and set(seen) == {(torch.float32, torch.float32)}
    )
    answers = torch.randint(0, 4, (2, 64, 64))
    loss = cross_entropy(scores, answers) / answers.numel()
    loss.backward()
    exact = whole_loss(model, x, texts, None, answers)
    assert loss.dtype == torch.float32 and abs(loss - exact) < 0.05 * exact
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_identity_block_changes_nothing():
    for kind, depth in (("depthwise", 1), ("depthwise", 4)):
        model = ImageModel(config(VIT, architecture.head_block(kind, depth, "lrelu")))
        model.scratch.head_block.start_as_identity()
        logits = torch.randn(1, 3, 8, 8).abs()
        assert torch.equal(model.scratch.head_block(logits), logits)


@pytest.mark.parametrize("numbers", [dict(width=100), dict(depth=6), dict(patch=14)], ids=["width", "depth", "patch"])
def test_numbers_that_make_no_network_are_refused(numbers):
    key, value = next(iter(numbers.items()))
    with pytest.raises(architecture.Unfit, match=f"{key} is {value}.*expected"):
        architecture.vit(**{"width": 64, "depth": 4, "patch": 16, "grid": 4, **numbers})


def header(path):
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)), file.read()


def test_the_demo_comes_out_of_this_network_as_it_is(tmp_path):
    """weights/train takes its network from here. Loaded and written again, demo.safetensors has the same bytes but for
    the order of its four texts, which safetensors shuffles."""
    sys.path.insert(0, str(REPOSITORY / "weights/train"))
    demo = importlib.import_module("network")
    tensors, before = load_file(DEMO), header(DEMO)[0]["__metadata__"]
    root = "clip_pretrained."
    model, tower = demo.ImageModel(), demo.TextTower(**demo.TEXT)
    image = {k: v.float() for k, v in tensors.items() if not k.startswith(root)}
    model.load_state_dict(model.state_dict() | image)
    tower.load_state_dict({k[len(root) :]: v.float() for k, v in tensors.items() if k.startswith(root)})
    from lseg_train.files import image_tensors

    written = image_tensors(model.state_dict(), half=True)
    written |= {root + k: v.half().contiguous() for k, v in tower.state_dict().items()}
    save_file(written, tmp_path / "again.safetensors", metadata=before)
    assert json.dumps(demo.CONFIG) == before["lseg-fast.config"]
    assert header(tmp_path / "again.safetensors") == header(DEMO)
