"""A user's terminal: commands as they are typed, and what they are typed about."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sys
from typing import Any

import numpy as np
import pytest

from wisetune.cli import main
from wisetune.data.formats import write


@dataclasses.dataclass(frozen=True)
class Done:
    """What a command left on the terminal."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        """Standard output, all of it."""
        return json.loads(self.out)


def wisetune(*words: object) -> Done:
    """Type a command."""
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        patch.setattr(sys, "argv", ["wisetune", *map(str, words)])
        code = main()
    return Done(code, out.getvalue(), error.getvalue())


def refused(done: Done, code: int, *said: str) -> None:
    """The command ended with this code and one message that says all this, and with nothing else."""
    assert done.code == code, done
    assert done.out == ""
    assert "Traceback" not in done.error
    assert done.error.startswith(("wisetune: ", "╭─ Error"))
    # Messages of the parser are set in a box of the terminal's width.
    plain = " ".join(done.error.replace("│", " ").split())
    for words in said:
        assert words in plain
    assert "\nwisetune: " not in done.error


def save_npz(path, data):
    """A task as an archive; what is val in it is train."""
    parts = [data.train, data.val, data.test]
    np.savez(
        path,
        points=np.concatenate([part.points for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        is_test=np.repeat([False, False, True], [len(part) for part in parts]),
        class_names=np.array(data.classes),
    )


def save_folder(path, data, suffix=".ply"):
    """The same as files, train/ball/0.ply and so on, without the val part."""
    for name, part in (("train", data.train), ("test", data.test)):
        for row, (points, label) in enumerate(zip(part.points, part.labels, strict=True)):
            folder = path / name / data.classes[label]
            folder.mkdir(parents=True, exist_ok=True)
            write(folder / f"{row}{suffix}", points)


# Every option of a job that trains for a moment; its words can be given again after these only where the parser takes a list.
WORDS = {
    "--from": "mine.safetensors",
    "--on": "npz:solids.npz",
    "--probe": "npz:others.npz",
    "--probe-c": "0.01",
    "--fit": "epochs=2,lr=0.01,augment=none",
    "--head-fit": "epochs=3,lr=0.05,augment=none",
    "--corruption": "none",
    "--out": "out",
}


def job(story: str = "lp", **changed: object) -> list[object]:
    """The words of such a run; ``head_fit="epochs=1"`` changes one, None leaves it out."""
    words = WORDS | {f"--{name.strip('_').replace('_', '-')}": value for name, value in changed.items()}
    return ["run", story, *(word for name, value in words.items() if value is not None for word in (name, value))]


def built(run: str = "out") -> dict[str, float]:
    """What a run's store holds that was trained or mixed: when each was made. The weights that a run starts from were neither."""
    return {row["digest"]: row["created"] for row in wisetune("list", run, "--json").json if "(" in row["recipe"]}


SWEEP = "wise-ft-lp:alphas=0+0.5+1,baselines=false"
