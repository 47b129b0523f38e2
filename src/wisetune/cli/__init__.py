"""The command line: parses, prints, and exits with documented codes. Commands are imported when used, torch when something is computed.

Exit codes: 0 done; 2 a wrong command, option or spec; 65 data, weights or a run that are missing or cannot be used; 69 an optional library is
missing; 70 training met numbers that are not finite; 73 the disk refuses; 75 somebody else is using it; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter

from wisetune._version import __version__
from wisetune.catalog import import_outside
from wisetune.cli.kinds import shown
from wisetune.errors import StorageError, UsageError, WisetuneError, as_typed

_IMPORT = "--import"
"""Before the command: a module of the user's own, which files may then name."""
EPILOGUE = (
    "Exit codes: 0 done, 2 usage, 65 data, weights or run missing or bad, 69 missing extra, 70 training, 73 disk, 75 busy, 130 interrupted, "
    "143 terminated."
)

app = App(
    name="wisetune",
    help="Fine-tune pre-trained 3D point-cloud models without losing what made them robust, and measure both sides honestly. "
    f"A tuning of your own: wisetune {_IMPORT} MODULE COMMAND ... imports its module first, so that files that name it can be read.",
    help_epilogue=EPILOGUE,
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=(), show_default=shown),
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
# Modules are named, not imported: what a command does not need is never loaded, and a listing needs no more than this.
_COMMANDS = {
    "demo": ("run:demo", "The main job on data and weights that ship with wisetune, offline."),
    "run": ("run:run", "Tune a pre-trained model on your data, measure gain and loss, write the evidence."),
    "compare": ("compare:compare", "Ways to tune, at the same budget: what each gains, forgets and costs."),
    "pretrain": ("pretrain:pretrain", "A backbone from your own unlabelled shapes."),
    "probe": ("probe:probe", "How good a backbone's frozen features are, beside random ones."),
    "memory": ("memory:memory", "The memory that a training step asks for, without a GPU."),
    "predict": ("models:predict", "The class of files, by a run's recommended model; or the part of every point."),
    "export": ("models:export", "A run's model as one safetensors file with a model card."),
    "report": ("models:report", "Draw a run's report again."),
    "list": ("listing:list_", "What a run's store holds."),
    "show": ("listing:show", "What a run found, one object of its store, or a backbone or weights file."),
    "options": ("options:options", "The options of a story, a task, a measure, of fit or of pretrain, with their defaults."),
    "doctor": ("doctor:doctor", "Check the installation, or a run's files."),
}
for _name, (_path, _help) in _COMMANDS.items():
    app.command(f"wisetune.cli.{_path}", name=_name, help=_help)
_data = App(name="data", help="Check data, simulate scans, write data sets as files.", help_format="plaintext")
_DATA_COMMANDS = {
    "check": "Everything wrong or suspicious in a data set, without training.",
    "simulate-scans": "Scan CAD objects with a simulated depth camera.",
    "export": "Write a task as a folder of files.",
}
for _name, _help in _DATA_COMMANDS.items():
    _data.command(f"wisetune.cli.data:{_name.replace('-', '_')}", name=_name, help=_help)
app.command(_data)


_SPINS = "10000"
"""Rounds that an OpenMP thread waits before it sleeps. GNU's default, 300,000, makes a training that shares its cores with anything else
several times slower, each thread burning what the other needs; this many costs nothing on cores of one's own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one message on stderr and never a traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)  # read when torch is loaded, which no command has done yet
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        given = _imported(given)
        with as_typed():
            result = app(given, exit_on_error=False, print_error=True)
        sys.stdout.flush()
    except CycloptsError as error:
        if given[:1] == ["run"] and isinstance(error, MissingArgumentError) and error.argument and "--story" in error.argument.names:
            from wisetune.build.request import stories

            print(f"Stories:\n{stories()}\nFor example: wisetune run wise-ft-lp --from point-mae-mini --on DIR --out OUT", file=sys.stderr)
        return 2
    except WisetuneError as error:
        print(f"wisetune: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stopped:
        # A command that keeps what it has done says what is true of it (``machine.if_stopped``); the others say nothing.
        print(f"wisetune: interrupted{stopped.args[0] if stopped.args else ''}.", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stopped, _Terminated) else signal.SIGINT)
    except BrokenPipeError:
        # Whoever read our output has gone; python would complain once more while closing stdout.
        _silence()
        return 0
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        # No file: it was standard output. Whatever writes files has a message of its own.
        _silence()
        message = f"standard output cannot be written: {error.strerror}. Free some space, or send it elsewhere."
        print(f"wisetune: {message}", file=sys.stderr)
        return StorageError.exit_code
    return result if isinstance(result, int) else 0


def _imported(given: list[str]) -> list[str]:
    """The words after ``--import MODULE``, once for each module, each of which is imported."""
    while given and given[0].partition("=")[0] == _IMPORT:
        name, rest = (given[0].partition("=")[2], given[1:]) if "=" in given[0] else ("".join(given[1:2]), given[2:])
        if not name:
            raise UsageError(f"{_IMPORT} needs the name of a module: wisetune {_IMPORT} my_lab.tuning predict out/scans new.ply")
        import_outside(name, _IMPORT)
        given = rest
    return given


def _silence() -> None:
    """Give standard output to nobody: what is left in it would be a second complaint at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Terminated(KeyboardInterrupt):
    """By SIGTERM, as schedulers do: all that an interrupt ends ends as well."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated
