from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

import pico
from wisetune.build import probing
from wisetune.cli import main
from wisetune.nets.files.save import save_backbone


@pytest.fixture(autouse=True)
def _its_own_folder(tmp_path, monkeypatch):
    """A backbone, two data sets; main's handler of SIGTERM does not outlive the test."""
    monkeypatch.chdir(tmp_path)
    save_backbone("mine.safetensors", pico.backbone(), {"data": [{"name": "npz:solids.npz", "used": 36, "left_out": 0, "up": "z"}]})
    for data in (pico.data(), pico.probe()):
        parts = [data.train, data.test]
        np.savez(
            f"{data.name}.npz",
            points=np.concatenate([part.points for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            is_test=np.repeat([False, True], [len(part) for part in parts]),
            class_names=np.array(data.classes),
        )
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def asked(monkeypatch):
    """What the command asks for; nothing is computed."""
    seen = []

    def stop(_entrants, asked, _meter, _device, **options):
        seen.append(([(one.task.path, one.up, one.per_class) for one in asked], options))
        raise KeyboardInterrupt

    monkeypatch.setattr(probing, "probe", stop)
    return seen


def run(*arguments):
    return main(["probe", "--quiet", *arguments])


def test_interrupted_it_does_not_promise_to_go_on(asked, capsys):
    assert run("mine.safetensors", "--on", "npz:solids.npz") == 130
    assert (len(asked), capsys.readouterr().err) == (1, "wisetune: interrupted.\n")


FAST = ("mine.safetensors", "--draws", "2", "--random", "1")


def test_table_on_stdout_and_nothing_on_stderr(capsys):
    assert run(*FAST, "--on", "npz:solids.npz,val=0", "--per-class", "4", "--turn") == 0
    out, error = capsys.readouterr()
    assert error == ""
    lines = out.splitlines()
    assert lines[0].split() == ["task", "pose", "backbone", "accuracy", "sd", "over", "draws", "n", "against", "random"]
    assert [line[: line.index("  ")] for line in lines[1:5]] == ["npz:solids.npz, 4 a class"] * 4
    assert "mine.safetensors saw the train part of npz:solids.npz in pre-training (36 shapes, unlabelled), and not its test part." in lines


def test_json_and_markdown(capsys, tmp_path, monkeypatch):
    arguments = [*FAST, "--on", "solids.npz", "--on-y", "npz:others.npz", "--per-class", "4", "--json", "--markdown", "deep/probes.md"]
    monkeypatch.setattr(sys, "argv", ["anything", "probe", *arguments])
    assert run(*arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["task"], row["backbone"], len(row["draws"]), row["n"]) for row in found["rows"]] == [
        (f"npz:{name}.npz", backbone, 2, n) for name, n in (("solids", 24), ("others", 20)) for backbone in ("mine.safetensors", "random")
    ]
    assert [task["up"] for task in found["tasks"]] == ["z", "y"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["probes.md"]
    section = (tmp_path / "deep" / "probes.md").read_text()
    assert f"```sh\nwisetune probe {' '.join(arguments)}\n```" in section
    assert section.count("| mine.safetensors |") == 2


def test_limits_are_for_all_or_for_each_in_order_of_the_tasks(asked):
    tasks = ("--on-y", "solids.npz", "--on", "others.npz", "--on-y", "others.npz")
    assert run("mine.safetensors", *tasks, "--per-class", "7") == 130
    assert asked.pop()[0] == [("solids.npz", "y", 7), ("others.npz", "z", 7), ("others.npz", "y", 7)]
    mixed = [word for task, limit in zip(range(0, 6, 2), "357", strict=True) for word in (*tasks[task : task + 2], "--per-class", limit)]
    assert run("mine.safetensors", *mixed) == 130
    assert asked.pop()[0] == [("solids.npz", "y", 3), ("others.npz", "z", 5), ("others.npz", "y", 7)]
    assert run("mine.safetensors", "--on", "solids.npz", "--c", "cv", "--draws", "9", "--turn") == 130
    assert asked.pop() == ([("solids.npz", "z", 60)], {"draws": 9, "c": "cv", "turn": True})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--on", "solids.npz"), "there is no backbone to probe"),
        (("mine.safetensors",), "--on"),
        (("missing", "--on", "solids.npz"), "there are no weights 'missing'"),
        (("mine.safetensors", "--on", "nowhere"), "'nowhere' is neither a path that is there nor a task"),
        (("mine.safetensors", "--on", "solids.npz", "--per-class", "3", "--per-class", "4"), "given 2 times for 1 task;"),
        (("mine.safetensors", "--on", "solids.npz", "--per-class", "-1"), "--per-class is -1"),
        (("mine.safetensors", "--on", "solids.npz", "--per-class", "few"), "few"),
        (("mine.safetensors", "--on", "solids.npz", "--draws", "0"), "--draws is 0"),
        (("mine.safetensors", "--on", "solids.npz", "--random", "-1"), "--random is -1"),
        (("mine.safetensors", "--on", "solids.npz", "--c", "much"), "it can be cv or a positive number"),
        (("mine.safetensors", "--on", "solids.npz", "--threads", "0"), "--threads is 0"),
        (("mine.safetensors", "--on", "solids.npz", "--markdown", "."), "is a folder; name a file in it"),
        (("mine.safetensors", "--on", "solids.npz", "--backbone", "point-mae"), "none of these is a released checkpoint"),
        (("mine.safetensors", "--on", "solids.npz", "--family", "act", "--family", "recon"), "--family was given 2 times for 0 released"),
        (("mine.safetensors", "--on-y", "npz:solids.npz,up=y"), "Give it with --on"),
    ],
)
def test_a_slip_is_one_message_and_its_exit_code(arguments, message, capfd):
    assert run(*arguments) == (65 if "nowhere" in arguments else 2)
    out, error = capfd.readouterr()
    assert message in error
    assert out == ""
    assert "Traceback" not in error


def test_a_section_that_cannot_be_written_comes_after_the_table(capsys):
    assert run(*FAST, "--on", "solids.npz", "--markdown", "mine.safetensors/probes.md") == 73
    out, error = capsys.readouterr()
    assert out.startswith("task")
    assert "cannot be written" in error


def test_help_needs_no_torch():
    check = (
        "import sys; from wisetune.cli import main\n"
        "try: main(['probe', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(', '.join({'torch', 'numpy', 'sklearn', 'numba'} & set(sys.modules)) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert "--on-y" in found.stdout
    assert "--per-class" in found.stdout
