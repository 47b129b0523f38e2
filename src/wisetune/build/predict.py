"""From a file to a class, or to the part of every point: the cloud is brought into the frame that the model was tuned in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from sklearn.neighbors import KDTree

from wisetune.data.files import FileTask, too_few
from wisetune.data.folder import Folder, files_below
from wisetune.data.formats import Cloud, NonFinite, Shape, read
from wisetune.errors import DataError, UsageError, WeightsError
from wisetune.nets.categories import named
from wisetune.nets.files.save import read_card
from wisetune.nets.parts import PartsHead
from wisetune.nets.segmenter import Segmenter
from wisetune.points.content import content_key
from wisetune.tune.saved import load_model


class _Saved:
    """A saved model and the frame of its clouds: what was done to those of the training (up axis, normalisation) is in the model's file."""

    def __init__(self, file: Path, device: torch.device) -> None:
        about = read_card(file).about
        self.model, self.device = load_model(file).to(device), device
        try:
            self.frame = frame_of(about)
        except UsageError as error:
            raise WeightsError(f"{file} does not say how its clouds are to be brought to it: {error} Export the model again.") from None

    def shape(self, file: Path) -> Shape:
        """What is in a file.

        Raises:
            BadFile: it cannot be read as a cloud or mesh, or holds too few points.
        """
        return _enough(read(file, nonfinite=unasked(self.frame)), str(file))


class Predictor(_Saved):
    """A saved classifier, ready for files.

    Raises:
        WeightsError: the file is not a classifier, or cannot be trusted.
    """

    def __init__(self, file: Path, device: torch.device) -> None:
        if has_parts(file):
            raise WeightsError(
                f"{file} is a part segmentation model, which answers for every point of a cloud whose category is known: wisetune predict {file} "
                "FILE --category NAME, or from Python wisetune.load_model(file).segment(points, category). A classifier is needed here."
            )
        super().__init__(file, device)

    def probabilities(self, file: Path) -> dict[str, float]:
        """The probability of each class; it follows from what is in the file, not from its name or place; errors as ``shape``."""
        cloud = framed(self.frame, self.shape(file), self.model.backbone.points, str(file))
        with torch.inference_mode():
            logits = self.model(torch.from_numpy(cloud)[None].to(self.device))[0]
        return dict(zip(self.model.classes, logits.softmax(dim=0).tolist(), strict=True))


@dataclasses.dataclass(frozen=True, eq=False)
class Parted:
    """Points as they are in a file, or ``drawn`` from a mesh there, and the part of each, a number of the model's ``classes``."""

    points: Float64[np.ndarray, "n 3"]
    labels: Int64[np.ndarray, " n"]
    drawn: bool


class PartsPredictor(_Saved):
    """A saved part segmentation model, ready for files of shapes of one category.

    Raises:
        WeightsError: the file is not such a model, does not know which parts are of which category, or cannot be trusted.
        UsageError: there is no such category; the message lists what there is.
    """

    def __init__(self, file: Path, category: str, device: torch.device) -> None:
        super().__init__(file, device)
        if not isinstance(self.model, Segmenter):
            raise WeightsError(f"{file} is a classifier, which answers for whole clouds; a part segmentation model is needed here.")
        if not self.model.categories:
            raise WeightsError(
                f"{file} does not say which parts are of which category. Write it again from a model that knows: wisetune.create(..., "
                "preset='shapenetpart'), or with classes={'chair': ['seat', 'leg'], 'table': ['top', 'leg']}."
            )
        self.segmenter, self.category = self.model, named(category, self.model.categories)
        self.numbers = self.segmenter.parts[self.category]
        self.names = self.segmenter.categories[self.category]

    def parts(self, file: Path) -> Parted:
        """The part of every point of a cloud, or of points drawn from a mesh; errors as ``shape``.

        The model sees as many points as it was made for; each of the others is of the part of the nearest of these.
        """
        shape = self.shape(file)
        seen = self.frame.drawn(shape, self.model.backbone.points, _key(shape))
        cloud = torch.from_numpy(self.frame.placed(seen))[None].to(self.device)
        labels = self.segmenter.segment(cloud, self.category)[0].cpu().numpy()
        if not isinstance(shape, Cloud):
            return Parted(seen, labels, drawn=True)
        nearest = KDTree(seen).query(shape.points, return_distance=False)[:, 0]
        return Parted(shape.points, labels[nearest], drawn=False)


def has_parts(file: Path) -> bool:
    """Whether a file of wisetune's holds a part segmentation model; errors as ``read_card``."""
    return isinstance(read_card(file).head, PartsHead)


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
    return frame.frame(_enough(shape, name), points, _key(shape))


def _enough(shape: Shape, name: str) -> Shape:
    if wrong := too_few(shape, name, "scan it again"):
        raise wrong
    return shape


def _key(shape: Shape) -> str:
    """What the draw of points follows from."""
    return content_key(*((shape.points,) if isinstance(shape, Cloud) else (shape.vertices, shape.faces)))
