"""Every class of error, by what users do wrong."""

import numpy as np
import pytest
from small_network import NETWORK, ROOT, make_engine

import lseg_fast
from lseg_fast import errors


def test_the_tree():
    names = ["ModelError", "InputError", "DeviceError", "LostError", "BusyError", "OutOfMemoryError"]
    for name in names:
        assert issubclass(getattr(lseg_fast, name), lseg_fast.Error), name
        assert getattr(lseg_fast, name) is getattr(errors, name)
    assert issubclass(lseg_fast.InputError, ValueError) and issubclass(lseg_fast.LostError, lseg_fast.DeviceError)
    assert issubclass(lseg_fast.OutOfMemoryError, MemoryError)


def test_models(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no model")
    for path in (tmp_path / "none.safetensors", broken, ROOT / "README.md"):
        with pytest.raises(lseg_fast.ModelError, match=path.name):
            lseg_fast.Engine(path, "cpu")


def test_devices():
    with pytest.raises(lseg_fast.DeviceError, match="expected auto, cpu, cuda or cuda:N"):
        lseg_fast.Engine(NETWORK, "gpu")
    with pytest.raises(lseg_fast.DeviceError):
        lseg_fast.Engine(NETWORK, "cuda:99")
    with pytest.raises(lseg_fast.InputError, match="expected auto, own or primary"):
        lseg_fast.Engine(NETWORK, "cpu", context="shared")  # type: ignore[arg-type]


def test_memory():
    with pytest.raises(lseg_fast.OutOfMemoryError, match="1.0 kB allowed"):
        lseg_fast.Engine(NETWORK, "cpu", memory=1000)
    engine = make_engine(memory=30_000_000)
    engine.size = "2048x2048"
    with pytest.raises(MemoryError, match="at 2048×2048"):
        engine.segment(np.zeros((8, 8, 3), np.uint8))
    engine.size = "32x32"
    engine.segment(np.zeros((8, 8, 3), np.uint8))


def test_inputs(image):
    engine = lseg_fast.Engine(NETWORK, "cpu", threads=1)
    with pytest.raises(lseg_fast.InputError, match="set_labels"):
        engine.segment(image)
    for labels, what in [([], "no labels"), ([""], "empty"), (["a\nb"], "line"), (["x" * 5000], "long|tokens")]:
        with pytest.raises(lseg_fast.InputError, match=what):
            engine.set_labels(labels)
    with pytest.raises(lseg_fast.InputError, match=r"\{\}"):
        engine.set_labels(["dog"], templates=["a photo"])
    with pytest.raises(lseg_fast.InputError):
        engine.text([])
    engine.set_labels([f"word {number}" for number in range(257)])
    engine.size = "32x32"
    with pytest.raises(lseg_fast.InputError, match="256 at most"):
        engine.segment(image, outputs="mask8")
    for outputs, what in [((), "no outputs"), (("masks",), "masks"), ("every", "every")]:
        with pytest.raises(lseg_fast.InputError, match=what):
            engine.segment(image, outputs=outputs)
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(lseg_fast.InputError, match="within 0 and 1"):
            engine.segment(image, threshold=threshold)
    for keywords, what in [({"at": "double"}, "half, full or photo"), ({"dtype": "int8"}, "float16 or float32"), ({"layout": "whc"}, "chw or hwc")]:
        with pytest.raises(lseg_fast.InputError, match=what):
            engine.embed(image, **keywords)
    with pytest.raises(TypeError):
        engine.segment(image, outputs=3)


def test_messages_are_one_line(engine):
    with pytest.raises(lseg_fast.Error) as raised:
        engine.segment(np.zeros((2, 2), np.int64))
    message = str(raised.value)
    assert "\n" not in message and not message.endswith(".")
