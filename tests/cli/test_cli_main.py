from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from terminal import job, refused, wisetune

from children import environment
from wisetune import errors
from wisetune._version import __version__

COMMANDS = ("demo", "run", "pretrain", "probe", "predict", "export", "report", "list", "show", "options", "doctor")
EVERY = [[name] for name in COMMANDS] + [["data"], *(["data", name] for name in ("check", "simulate-scans", "export"))]


def python(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment(), check=False, **options)


def test_help_of_every_command_says_its_exit_codes_and_needs_no_torch():
    script = f"""
import contextlib, io, json, sys
from wisetune.cli import main
found = []
for words in {[[], *EVERY]}:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([*words, "--help"])
    found.append([" ".join(words), code, out.getvalue(), sorted({{"torch", "numpy", "sklearn", "numba", "matplotlib"}} & set(sys.modules))])
print(json.dumps(found))
"""
    done = python("-c", script)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert len(found) == len(EVERY) + 1
    for words, code, out, loaded in found:
        assert (code, loaded) == (0, []), words
        assert out.startswith(f"Usage: wisetune {words}".rstrip()), words
        assert "Exit codes: 0 done, 2 usage, 65" in out, words
        plain = " ".join(out.replace("│", " ").split())
        assert not re.findall(r"default: (?:[(\['\"]|False|None)|\b(?:STR|INT|CHOICE|LIST)\b", plain), words
    text = {words: out for words, _, out, _ in found}
    assert all(name in text[""] for name in COMMANDS)
    assert {"--from", "--dry-run", "--json", "--quiet"} <= set(re.findall(r"--[a-z-]+", text["run"]))


def test_every_error_has_an_exit_code_that_help_explains():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.WisetuneError)]
    explained = set(map(int, re.findall(r"\d+", wisetune("--help").out.rpartition("Exit codes:")[2])))
    assert {kind.exit_code for kind in kinds if kind is not errors.WisetuneError} | {0, 130, 143} == explained


def test_version():
    done = wisetune("--version")
    assert (done.code, done.out, done.error) == (0, f"{__version__}\n", "")


def test_no_command_is_help():
    done = wisetune()
    assert done.code == 0
    assert done.out == wisetune("--help").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("predct",), 'Unknown command "predct". Did you mean "predict"?'),
        (("list", "out", "--jsn"), "--jsn"),
        (("list",), "parameter RUN requires an argument"),
        (("run", "wise-ft-lp", "--on", "scans", "--out", "out"), "--from"),
        (("run", "lp", "--from", "a", "--on", "b", "--out", "c", "--seeds", "few"), "few"),
        (("run", "lp", "--from", "a", "--on", "b", "--out", "c", "--rule", "best"), "best"),
    ],
)
def test_what_the_parser_refuses_is_exit_code_2(words, said):
    refused(wisetune(*words), 2, said)


@pytest.mark.parametrize("words", [("run",), ("run", "--on", "scans")])
def test_a_run_without_a_story_lists_them_all(words):
    done = wisetune(*words)
    assert (done.code, done.out) == (2, "")
    _, _, listed = done.error.partition("Stories:\n")
    assert [line.split()[0] for line in listed.splitlines()[:-1]] == ["compare", "ft", "lp", "lp-ft", "wise-ft", "wise-ft-lp"]
    assert "  lp          Only a head trains; the backbone, and so its robustness, stays as it was." in listed


def test_as_a_module():
    done = python("-m", "wisetune", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.usefixtures("finished")
def test_a_reader_that_goes_away_is_no_failure():
    script = "import sys; from wisetune.cli import main; sys.exit(main(['list', 'out', '--json']))"
    inside, outside = os.pipe()
    os.close(inside)
    done = subprocess.run([sys.executable, "-c", script], stdout=outside, stderr=subprocess.PIPE, text=True, env=environment(), check=False)
    os.close(outside)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_is_one_line_and_exit_code_130(world):
    words = [*map(str, job("ft", fit="epochs=100000,augment=none")), "--quiet"]
    # Where the tests run in the background the shell has them ignore interrupts, and a child would inherit that.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-m", "wisetune", *words]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=heard,
    )
    try:
        while not (world / "out/run.json").exists():  # the work has begun
            assert child.poll() is None, child.communicate()
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        out, error = child.communicate()
    finally:
        child.kill()
    assert (child.returncode, out, error) == (130, "", "wisetune: interrupted; the same command goes on from here.\n")
    assert not list(world.glob("out/store/locks/*.lock"))


def test_waiting_threads_soon_sleep_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    wisetune("list", "nowhere")
    assert int(os.environ["GOMP_SPINCOUNT"]) < 300_000
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    wisetune("list", "nowhere")
    assert os.environ["GOMP_SPINCOUNT"] == "7"
