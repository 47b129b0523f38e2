"""Every benchmark at a tiny size: that it runs and that both sides' results are equal, never a time. Needs no checkout.

python -m benchmarks.smoke
"""

from __future__ import annotations

import runpy
import sys
import tempfile
from pathlib import Path

from benchmarks._official import FAMILIES

_BENCHMARKS = (("sampling",), ("tokenizer",), *(("backbones", family) for family in FAMILIES), ("sweep",), ("tunings",))


def main() -> None:
    """Run them one after the other in this process; the first that fails ends it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, *family in _BENCHMARKS:
            file = Path(folder) / f"{'-'.join([name, *family])}.json"
            sys.argv = [name, *family, "--smoke", "--json", str(file)]
            print("==", name, *family)
            runpy.run_module(f"benchmarks.{name}", run_name="__main__")
            if not file.stat().st_size:
                raise SystemExit(f"{file.stem} wrote no results")


if __name__ == "__main__":
    main()
