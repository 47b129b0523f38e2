from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import pytest

from wisetune.canonical import digest_of
from wisetune.catalog import Catalog
from wisetune.errors import UsageError
from wisetune.spec import Spec
from wisetune.tune.tunings import TUNINGS


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with entries good and bad, and the catalog of it."""
    folder = tmp_path / "zoo_of_specs"
    folder.mkdir()
    sources = {
        "__init__": "",
        "base": "",
        "_hidden": "",
        "two_words": """
            import dataclasses
            from wisetune.spec import Spec
            @dataclasses.dataclass(frozen=True)
            class TwoWords(Spec):
                name = "two-words"
                size: int = 1
        """,
        "broken": "raise RuntimeError('imported')",
        "nameless": "from wisetune.spec import Spec\nclass Other(Spec):\n    name = 'other'",
    }
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Catalog("animal", "zoo_of_specs", Spec, machinery=("base",))
    for name in [name for name in sys.modules if name.startswith("zoo_of_specs")]:
        del sys.modules[name]


def test_a_catalog_finds_its_entries_by_file_name_and_imports_none_of_them(package):
    assert package.names() == ["broken", "nameless", "two-words"]
    assert not [name for name in sys.modules if name.startswith("zoo_of_specs.")]


def test_a_catalog_parses_what_its_entries_spell(package):
    spec = package.parse("two-words:size=4")
    assert (type(spec).__name__, str(spec)) == ("TwoWords", "two-words:size=4")
    assert package.parse(" two-words ") == type(spec)()
    assert "zoo_of_specs.broken" not in sys.modules


def test_a_catalog_says_what_there_is(package):
    with pytest.raises(
        UsageError, match=r"there is no animal 'two-word'\. Did you mean 'two-words'\? There are: broken, nameless, two-words\."
    ):
        package.parse("two-word")
    with pytest.raises(UsageError, match=r"there is no animal 'base'"):
        package.parse("base")
    with pytest.raises(UsageError, match=r'module zoo_of_specs\.nameless defines no animal named \'nameless\'; set name = "nameless"'):
        package.parse("nameless")


@pytest.fixture
def my_lab(tmp_path, monkeypatch):
    """A package outside wisetune with the tuning that CONTRIBUTING.md shows, and others that are wrong."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.search(r"```python\n# my_lab/tuning\.py\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "__init__.py").touch()
    (tmp_path / "my_lab" / "tuning.py").write_text(shown[1])
    (tmp_path / "my_lab" / "named.py").write_text(shown[1] + '    name = "mine"\n')
    (tmp_path / "my_lab" / "broken.py").write_text("import no_such_library")
    (tmp_path / "one_module.py").write_text(shown[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith(("my_lab", "one_module"))]:
        del sys.modules[name]


@pytest.mark.usefixtures("my_lab")
@pytest.mark.parametrize("address", ["my_lab.tuning:Mine", "one_module:Mine"])
def test_an_entry_from_elsewhere_is_spelled_by_module_and_class_and_reads_back(address):
    spec = TUNINGS.parse(f"{address}:biases=true")
    assert spec.biases
    assert str(spec) == f"{address}:biases=true"
    assert str(type(spec)()) == address
    assert TUNINGS.parse(str(spec)) == TUNINGS.parse(spec.in_full()) == TUNINGS.parse(f" {address}:true ") == spec
    assert TUNINGS.entry(address) is type(spec)
    assert spec.canonical() == {"spec": address, "biases": True}
    with pytest.raises(UsageError, match=f"'{address}' has no option 'rank'. Options: biases"):
        TUNINGS.parse(f"{address}:rank=4")


@pytest.mark.usefixtures("my_lab")
def test_entries_of_one_class_name_in_two_places_are_told_apart():
    assert digest_of(TUNINGS.parse("my_lab.tuning:Mine")) != digest_of(TUNINGS.parse("one_module:Mine"))


@pytest.mark.usefixtures("my_lab")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no_lab.tuning:Mine:biases=true", r"tuning 'no_lab\.tuning:Mine': the module 'no_lab\.tuning' cannot be imported .*PYTHONPATH"),
        ("my_lab.broken:Mine", r"the module 'my_lab\.broken' cannot be imported \(No module named 'no_such_library'\)"),
        ("my_lab.tuning:Other:biases=true", r"the module 'my_lab\.tuning' has no class 'Other'\. Of this kind it has: Mine\."),
        ("json:Other", r"the module 'json' has no class 'Other'\. Of this kind it has: none\."),
        ("json:JSONDecoder", r"'json:JSONDecoder' is not a tuning: it must be a subclass of wisetune\.tune\.tuning\.Tuning"),
        ("json.decoder:scanstring", r"is not a tuning"),
        ("my_lab.named:Mine", r"calls itself 'mine', .* Leave name out of the class"),
        (
            "my_lab.tuning.Mine:biases=true",
            r"there is no tuning 'my_lab\.tuning\.Mine'\. One of your own is spelled my_package\.module:Class",
        ),
        ("no_lab:Mine", r"there is no tuning 'no_lab'\. There are: .*full, .*linear"),
    ],
)
def test_an_entry_from_elsewhere_that_is_none_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        TUNINGS.parse(text)


@pytest.mark.parametrize("name", [".x", "./x", "x.", "..", "../x", "a..b", "./a:b", "..:x", "a..b:C", "C:\\scans", ":X", "json:", ""])
def test_a_path_in_place_of_a_name_is_refused(package, name):
    with pytest.raises(UsageError, match="animal"):
        package.parse(name)
