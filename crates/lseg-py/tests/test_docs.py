"""The code of docs/python.md runs, from top to bottom."""

import importlib.util
import re

from small_network import ROOT

PAGE = ROOT / "docs/python.md"


def test_the_pages_code_runs(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    for block in blocks:
        if "torch" in block and not importlib.util.find_spec("torch"):
            continue
        exec(compile(block, str(PAGE), "exec"), names)
    assert "expected uint8 [H, W, 3]" in capsys.readouterr().out


def test_the_page_names_all_there_is():
    import lseg_fast

    text = PAGE.read_text()
    public = [name for kind in (lseg_fast.Engine, lseg_fast.Tensor, lseg_fast.Stream, lseg_fast.Answer) for name in vars(kind) if not name.startswith("_")]
    public += [name for name in lseg_fast.__all__ if not name.startswith("_")]
    missing = [name for name in public if name not in text]
    assert missing == []
