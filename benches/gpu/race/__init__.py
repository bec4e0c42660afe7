"""Parts of torch_lseg.py. Each loads without PyTorch."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
if not (HERE / "lseg_reference.py").exists():  # in the repository; in a bundle they lie beside torch_lseg.py
    sys.path.append(str(HERE.parents[1] / "tests" / "golden"))
