"""Every benchmark at a tiny size: that it runs and that both sides' results are equal, never a time. Needs no checkout.

python -m benchmarks.smoke
"""

from __future__ import annotations

import runpy
import sys
import tempfile
from pathlib import Path

_BENCHMARKS = ("sampling", "tokenizer", "backbones", "sweep")


def main() -> None:
    """Run them one after the other in this process; the first that fails ends it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in _BENCHMARKS:
            file = Path(folder) / f"{name}.json"
            sys.argv = [name, "--smoke", "--json", str(file)]
            print(f"== {name}")
            runpy.run_module(f"benchmarks.{name}", run_name="__main__")
            if not file.stat().st_size:
                raise SystemExit(f"{name} wrote no results")


if __name__ == "__main__":
    main()
