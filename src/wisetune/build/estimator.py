"""The main job as an estimator in the manner of scikit-learn: ``fit``, ``predict``, ``score`` over folders or arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from wisetune.build.choice import Rule
from wisetune.build.job import Runner
from wisetune.build.meter import Meter, Silent
from wisetune.build.request import Request, job_of
from wisetune.data.files import FileTask
from wisetune.data.folder import Folder
from wisetune.data.formats import read
from wisetune.data.splits import assign
from wisetune.data.task import Data, Split
from wisetune.data.tasks import parse_task
from wisetune.errors import DataError, UsageError
from wisetune.nets.model import Model
from wisetune.points.normalise import normalise
from wisetune.points.surface import resample
from wisetune.results import Results
from wisetune.runtime import device as device_of
from wisetune.runtime import generator
from wisetune.store.store import Store

Clouds = str | Path | Sequence[str | Path] | Sequence[np.ndarray] | np.ndarray
_ARRAYS = "arrays"


class Classifier:
    """A robustly fine-tuned point-cloud classifier.

    ``fit`` takes a folder (or a task's spelling), or clouds ``[n, p, 3]`` (or a list of ``[p, 3]``) with labels; it holds out its own validation
    part, tunes, sweeps alpha, and keeps the recommended model. After it: ``model_``, ``classes_``, ``results_`` (see ``wisetune.results``).

    Args:
        start: pre-trained weights (see ``wisetune.resolve``).
        story: what to do; ``ft``, ``lp`` and ``lp-ft`` tune without a sweep.
        probes: tasks on which robustness is measured; the bundled CAD objects if none.
        fit, head_fit: options of full fine-tuning and of training a head, as on the command line.
        head: ``linear`` or ``mlp3``.
        rule: how alpha is recommended.
        seed: training seed.
        out: folder of the store, from which an interrupted fit goes on; a temporary one if None.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
    """

    def __init__(
        self,
        start: str = Request.start,
        story: str = Request.story,
        probes: Sequence[str] = Request.probes,
        fit: str = Request.fit,
        head_fit: str = Request.head_fit,
        head: str = Request.head,
        rule: Rule = Request.rule,
        seed: int = 0,
        out: str | Path | None = None,
        device: str = "auto",
    ) -> None:
        self.start, self.story, self.probes, self.fit_options, self.head_fit = start, story, probes, fit, head_fit
        self.head, self.rule, self.seed, self.out, self.device = head, rule, seed, out, device
        self.model_: Model | None = None
        self.classes_: tuple[str, ...] = ()
        self.results_: Results | None = None
        self._frame: FileTask = Folder(".")

    def fit(
        self, clouds: Clouds, labels: Sequence[str] | Sequence[int] | np.ndarray | None = None, meter: Meter | None = None
    ) -> Classifier:
        """Tune on labelled clouds and keep the recommended model.

        Raises:
            DataError: clouds that cannot be used.
            UsageError: labels missing or of another length.
        """
        where = device_of(self.device)
        if labels is None:
            if not isinstance(clouds, (str, Path)):
                raise UsageError("fit(clouds) without labels takes a folder or a task; for arrays pass labels too.")
            task = parse_task(str(clouds))
            on = str(task)
            self._frame = task if isinstance(task, FileTask) else self._frame
            names = None
        else:
            on, names = _ARRAYS, [str(label) for label in np.asarray(labels).tolist()]

        def load(text: str, points: int) -> Data:
            if names is None or text != _ARRAYS:
                return parse_task(text).load(points)
            return _data_of(self._stack(clouds, points), names, seed=self.seed)

        request = Request(
            on=on,
            start=self.start,
            story=self.story,
            probes=tuple(self.probes),
            seeds=(self.seed,),
            head=self.head,
            fit=self.fit_options,
            head_fit=self.head_fit,
            corruption="none",
            rule=self.rule,
        )
        job = job_of(request, given=() if names is None else (_ARRAYS,))
        with tempfile.TemporaryDirectory() as scratch:
            store = Store(Path(self.out) / "store" if self.out else Path(scratch) / "store")
            finished = Runner(job, store, load, where, meter or Silent()).run({})
        self.model_, self.classes_, self.results_ = finished.model, finished.data.classes, finished.results
        return self

    def predict(self, clouds: Clouds) -> np.ndarray:
        """The class name of each cloud or file."""
        return np.array(self.classes_)[self.predict_proba(clouds).argmax(axis=1)]

    def predict_proba(self, clouds: Clouds) -> np.ndarray:
        """Probabilities ``[n, classes]``, in the order of ``classes_``.

        Raises:
            UsageError: before ``fit``.
            DataError: clouds that cannot be used.
        """
        if self.model_ is None:
            raise UsageError("this Classifier is not fitted yet; call fit first.")
        points = torch.from_numpy(self._stack(clouds, self.model_.backbone.points))
        where = next(self.model_.parameters()).device
        with torch.inference_mode():
            parts = [self.model_(part.to(where)).softmax(dim=1).cpu() for part in points.split(32)]
        return torch.cat(parts).numpy()

    def score(self, clouds: Clouds, labels: Sequence[str] | Sequence[int] | np.ndarray) -> float:
        """Accuracy on these clouds."""
        return float(np.mean(self.predict(clouds) == np.array([str(label) for label in np.asarray(labels).tolist()])))

    def _stack(self, clouds: Clouds, points: int) -> np.ndarray:
        """Clouds or files as ``[n, points, 3]``, drawn and normalised as in training."""
        items = [clouds] if isinstance(clouds, (str, Path)) else list(clouds)
        if not items:
            raise DataError("no clouds were given; give at least one array [p, 3] or one file.")
        return np.stack([self._one(item, row, points) for row, item in enumerate(items)])

    def _one(self, item: str | Path | np.ndarray, row: int, points: int) -> np.ndarray:
        if isinstance(item, (str, Path)):
            return self._frame.frame(read(Path(item)), points, Path(item).name)
        cloud = np.asarray(item, np.float64)
        if cloud.ndim != 2 or cloud.shape[1] != 3 or len(cloud) == 0 or not np.isfinite(cloud).all():
            raise DataError(f"cloud {row} has shape {list(cloud.shape)}; a cloud is finite numbers [p, 3] with at least one point.")
        return normalise(resample(cloud, points, generator(self.seed, "array", row)), "sphere")


def _data_of(points: np.ndarray, labels: Sequence[str], seed: int) -> Data:
    """Arrays with labels as data: 20 % are held out for validation, 20 % for the test that the results report."""
    if len(points) != len(labels):
        raise UsageError(f"{len(points)} clouds were given with {len(labels)} labels; each cloud needs one.")
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise DataError(f"all labels are {', '.join(classes) or 'missing'}; a classifier needs at least two classes.")
    rows = np.array([classes.index(label) for label in labels], np.int64)
    names = tuple(f"{row:06d}" for row in range(len(labels)))
    part = np.array(assign(rows, names, names, (None,) * len(rows), 0.2, 0.2, seed))
    every = Split(points, rows, names)
    splits = {name: every.take(np.flatnonzero(part == name)) for name in ("train", "val", "test")}
    return Data(_ARRAYS, classes, **splits, protocol={"split": f"20 % val, 20 % test, stratified, seed {seed}", "normalised": "sphere"})
