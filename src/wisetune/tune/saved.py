"""Models from weights files, those into which a tuning grafted too: its modules have to be there before their values fit."""

from __future__ import annotations

from pathlib import Path

from wisetune.nets.files import save
from wisetune.nets.headed import Headed
from wisetune.nets.model import Model
from wisetune.nets.segmenter import Segmenter
from wisetune.tune.tunings import TUNINGS


def load_model(path: str | Path) -> Model | Segmenter:
    """The model in a file that ``save_model`` wrote, in eval mode, in float32 if it was stored in half precision.

    A file never imports a tuning from outside wisetune: import its module before, if you trust the file.

    Raises:
        BadFile: the file is damaged or not safetensors.
        WeightsError: it is not wisetune's, holds no head, is not what it says, or was made by a tuning that is not there.
    """
    return save.load_model(path, _graft)


def _graft(model: Headed, tuning: str) -> None:
    TUNINGS.parse_imported(tuning).graft_into(model)
