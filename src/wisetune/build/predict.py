"""From a file to a class: the cloud is brought into the frame that the model was tuned in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from wisetune.data.files import FileTask, too_few
from wisetune.data.folder import Folder, files_below
from wisetune.data.formats import Cloud, NonFinite, Shape, read
from wisetune.errors import DataError, UsageError, WeightsError
from wisetune.nets.files.save import read_card
from wisetune.nets.parts import PartsHead
from wisetune.points.content import content_key
from wisetune.tune.saved import load_model


class Predictor:
    """A saved model ready to classify files. What was done to training clouds (up axis, normalisation) is in the model's file.

    Raises:
        WeightsError: the file is not a classifier, or cannot be trusted.
    """

    def __init__(self, file: Path, device: torch.device) -> None:
        card = read_card(file)
        if isinstance(card.head, PartsHead):
            raise WeightsError(
                f"{file} is a part segmentation model, which answers for every point of a cloud whose category is known. wisetune predict takes a "
                "classifier; from Python: wisetune.load_model(file)(points, category)."
            )
        about = card.about
        self.model, self.device = load_model(file).to(device), device
        try:
            self.frame = frame_of(about)
        except UsageError as error:
            raise WeightsError(f"{file} does not say how its clouds are to be brought to it: {error} Export the model again.") from None

    def probabilities(self, file: Path) -> dict[str, float]:
        """The probability of each class; it follows from what is in the file, not from its name or place.

        Raises:
            BadFile: the file cannot be read as a cloud or mesh, or holds too few points.
        """
        cloud = framed(self.frame, read(file, nonfinite=unasked(self.frame)), self.model.backbone.points, str(file))
        with torch.inference_mode():
            logits = self.model(torch.from_numpy(cloud)[None].to(self.device))[0]
        return dict(zip(self.model.classes, logits.softmax(dim=0).tolist(), strict=True))


def spread(given: Iterable[str | Path]) -> list[Path]:
    """Files as they are, and in place of a folder every file below it, by path; hidden ones and ``__MACOSX`` are passed over.

    Raises:
        DataError: a folder without files, or one that cannot be listed.
    """
    found: list[Path] = []
    for path in map(Path, given):
        inside = sorted(files_below(path)) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"there is no file in the folder '{path}'. Give point clouds or meshes, or a folder with some.")
        found += inside
    return found


def frame_of(said: Mapping[str, Any]) -> FileTask:
    """The frame that a task's protocol or a model's file names: its ``normalise``, ``up`` and ``nonfinite``.

    Raises:
        UsageError: a word that is none of theirs.
    """
    return Folder(".", normalise=said.get("normalise", "sphere"), up=said.get("up", "z"), nonfinite=said.get("nonfinite", "refuse"))


def told(frame: FileTask) -> dict[str, str]:
    """The frame as a model's file says it; ``frame_of`` is the inverse."""
    return {"normalise": frame.normalise, "up": frame.up, "nonfinite": frame.nonfinite}


def unasked(frame: FileTask) -> NonFinite | None:
    """What becomes of points that are not finite, as in training. Who predicts has no option for it, and is not told of one."""
    return "drop" if frame.nonfinite == "drop" else None


def framed(frame: FileTask, shape: Shape, points: int, name: str) -> Float32[np.ndarray, "{points} 3"]:
    """A shape as the cloud that a model sees. The draw of points follows from the shape's own numbers; ``name`` is for the message.

    Raises:
        BadFile: a cloud of too few points to have a shape, as in training.
    """
    if wrong := too_few(shape, name, "scan it again"):
        raise wrong
    numbers = (shape.points,) if isinstance(shape, Cloud) else (shape.vertices, shape.faces)
    return frame.frame(shape, points, content_key(*numbers))
