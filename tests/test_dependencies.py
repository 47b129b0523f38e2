"""What is installed with wisetune is what wisetune imports."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTED_AS = {"scikit-learn": "sklearn"}


def named(group: str) -> set[str]:
    """The modules of a list of requirements in pyproject.toml (read by a pattern: Python 3.10 has no tomllib)."""
    found = re.search(rf"^{group} = \[(.*?)\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    names = re.findall(r'"([\w-]+)[><=]', found[1])
    return {IMPORTED_AS.get(name, name) for name in names}


def imported() -> set[str]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "src").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"wisetune"}


def test_the_core_needs_what_it_imports_and_nothing_else():
    assert named("dependencies") == imported() - named("las")


def test_an_optional_library_is_imported():
    assert named("las") - {"lazrs"} <= imported()  # laspy finds lazrs by itself
