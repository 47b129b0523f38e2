"""The main job as an estimator in the manner of scikit-learn: ``fit``, ``predict``, ``score`` over folders or arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin

from wisetune.build.bar import Bar
from wisetune.build.builder import keep_start
from wisetune.build.experiment import Experiment
from wisetune.build.meter import Meter, Silent
from wisetune.build.predict import frame_of, framed, spread, told, unasked
from wisetune.build.request import Request, Rule, job_of, weights_of
from wisetune.build.runner import Runner
from wisetune.build.work import work
from wisetune.data.files import FileTask
from wisetune.data.formats import Cloud, Shape, read
from wisetune.data.formats.base import MalformedError, sound
from wisetune.data.splits import assign
from wisetune.data.task import Data, Split
from wisetune.data.tasks import parse_task
from wisetune.errors import DataError, UsageError, counted
from wisetune.nets.files.save import save_model
from wisetune.nets.heads import HEADS
from wisetune.nets.model import Model
from wisetune.results import Results
from wisetune.runtime import device as device_of
from wisetune.store.store import Store

Clouds = str | Path | Sequence[str | Path] | Sequence[np.ndarray] | np.ndarray
Labels = Sequence[str] | Sequence[int] | np.ndarray
_ARRAYS = "arrays"
_HELD_OUT = 0.2
_SPLIT = FileTask.seed
"""Of the split: that of folders too, so that models of several seeds are compared on the same clouds."""
_SHOWN = 10
_TAKES: dict[str, tuple[tuple[type, ...], str]] = {
    "start": ((str, Path), "the name of pre-trained weights or a file, such as 'point-mae-mini'"),
    "story": ((str,), "the name of a story, such as 'wise-ft-lp'"),
    "probes": ((str, Path), "a list of tasks, such as ['folder:other']; an empty one for the bundled objects, or 'none'"),
    "fit_options": ((str,), "text, such as 'epochs=30,lr=0.001'"),
    "head_fit_options": ((str,), "text, such as 'epochs=100,lr=0.003'"),
    "head": ((str,), f"one of {', '.join(HEADS)}"),
    "rule": ((str,), "'interval' or 'greedy'"),
    "keep": ((str, type(None)), "the spelling of a penalty, such as 'ewc:weight=10', or None"),
    "seed": ((int, np.integer), "a whole number from 0"),
    "out": ((str, Path, type(None)), "the path of a folder, or None"),
    "device": ((str,), "'auto', 'cpu', 'cuda' or 'mps'"),
    "verbose": ((bool, np.bool_, int), "True or False"),
    "backbone": ((str, type(None)), "the architecture of a released checkpoint, such as 'point-mae-scanobjectnn', or None"),
    "family": ((str, type(None)), "the name of a family, such as 'recon', or None"),
}
"""Of each argument the kinds that it may have, and what it takes in words."""


class Classifier(ClassifierMixin, BaseEstimator):
    """A robustly fine-tuned point-cloud classifier.

    ``fit`` takes a folder (or a task's spelling), or clouds ``[n, p, 3]`` (or a list of ``[p, 3]``, or of files) with labels. It holds out 20 % of
    each class as its validation part, on which alpha is chosen, trains on the rest, and keeps the recommended model. There is no test part unless
    the data have one (a folder ``test``, ``is_test`` of an ``.npz``, ``demo:scans``) or it is asked for (``folder:scans,test=0.2``); without one the
    accuracies in ``results_`` are of the validation part, which chose alpha: ``score`` clouds that ``fit`` has not seen.

    After it: ``model_``, ``classes_`` (labels as they were given, in their own order), ``results_`` (see ``wisetune.results``). Clouds given to
    ``predict`` are brought to the frame that the model was tuned in: the task's ``up``, ``normalise`` and ``nonfinite``; its answer for a cloud
    follows from the cloud alone.

    Args:
        start: pre-trained weights (see ``wisetune.resolve``).
        story: what to do; ``ft``, ``lp`` and ``lp-ft`` tune without a sweep.
        probes: tasks on which robustness is measured; the bundled CAD objects if it is empty; ``none`` measures none, of a story without a sweep.
        fit_options, head_fit_options: of full fine-tuning and of training a head, as after ``--fit`` and ``--head-fit`` on the command line.
        head: ``linear``, ``mlp1``, ``mlp2`` or ``mlp3``.
        rule: how alpha is recommended.
        keep: the penalty of every training of a backbone, as after ``--keep``; None for none.
        seed: training seed; what is held out of arrays or a folder does not follow from it.
        out: folder of the store, from which an interrupted fit goes on; a temporary one if None.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        verbose: show how far ``fit`` is and how long it still takes, as the command line does.
        backbone: the architecture of a released checkpoint given as ``start``, such as ``point-mae-scanobjectnn``.
        family: whose that checkpoint is, where the backbone is to begin with another family's encoder.
    """

    def __init__(
        self,
        start: str = Request.start,
        story: str = Request.story,
        probes: Sequence[str] = Request.probes,
        fit_options: str = Request.fit,
        head_fit_options: str = Request.head_fit,
        head: str = Request.head,
        rule: Rule = Request.rule,
        seed: int = 0,
        out: str | Path | None = None,
        device: str = "auto",
        verbose: bool = False,
        keep: str | None = Request.keep,
        backbone: str | None = None,
        family: str | None = None,
    ) -> None:
        self.start, self.story, self.probes = start, story, probes
        self.fit_options, self.head_fit_options = fit_options, head_fit_options
        self.head, self.rule, self.seed, self.out, self.device, self.verbose = head, rule, seed, out, device, verbose
        self.keep = keep
        self.backbone, self.family = backbone, family
        self.model_: Model | None = None
        self.classes_: Shaped[np.ndarray, " c"] = np.empty(0, np.str_)
        self.results_: Results | None = None
        self._frame = frame_of({})

    # X and y are scikit-learn's words; its tools may pass them by name.
    def fit(self, X: Clouds, y: Labels | None = None, meter: Meter | None = None) -> Classifier:
        """Tune on labelled clouds and keep the recommended model; ``meter`` is told how far it is, in place of what ``verbose`` shows.

        Raises:
            DataError: clouds that cannot be used.
            UsageError: labels missing, of another length, or of several kinds.
        """
        self._check_arguments()
        where = device_of(self.device)
        if y is None:
            if not isinstance(X, (str, Path)):
                raise UsageError("fit without labels takes a folder or a task; for arrays pass labels too.")
            on, given, classes = str(parse_task(X, test=0.0)), None, None
        else:
            if isinstance(X, (str, Path)):
                raise UsageError(
                    f"fit was given '{X}' with labels. A folder or task names its classes itself: leave the labels out, or give a list of files."
                )
            on, given = _ARRAYS, _labels(y)
            classes = np.unique(given)

        def load(text: str, points: int) -> Data:
            if given is None or text != _ARRAYS:
                return parse_task(text).load(points)
            return _data_of(*_stack(X, points, frame_of({})), given)

        request = Request(
            on=on,
            start=str(self.start),
            story=self.story,
            backbone=self.backbone,
            family=self.family,
            probes=tuple(map(str, [self.probes] if isinstance(self.probes, (str, Path)) else self.probes)),
            seeds=(int(self.seed),),
            head=self.head,
            fit=self.fit_options,
            head_fit=self.head_fit_options,
            corruption="none",
            rule=self.rule,
            keep=self.keep,
        )
        weights = weights_of(request)
        job = job_of(request, weights, given=() if given is None else (_ARRAYS,))
        with tempfile.TemporaryDirectory() as scratch, self._shown(meter) as shown:
            shown.stage("reading data")
            store = Store(Path(self.out) / "store" if self.out else Path(scratch) / "store", tell=shown.tell)
            begin = weights.load()
            # Data that are refused leave no weights behind.
            experiment = Experiment(job, load, shown.tell)
            keep_start(store, job.start, begin)
            runner = Runner(experiment, store, where, shown)
            shown.expect(work(runner))
            finished = runner.run()
        self.model_, self.results_ = finished.model, finished.results
        self.classes_ = np.array(finished.data.classes) if classes is None else classes
        self._frame = frame_of(finished.data.protocol)
        return self

    def _check_arguments(self) -> None:
        """Refuse arguments of another kind; scikit-learn wants that done in ``fit``.

        Raises:
            UsageError: one is; the message says what it takes.
        """
        for name, (kinds, takes) in _TAKES.items():
            value = getattr(self, name)
            several = list(value) if name == "probes" and isinstance(value, (list, tuple, set, np.ndarray)) else [value]
            if not all(isinstance(one, kinds) and (bool in kinds or not isinstance(one, bool)) for one in several):
                raise UsageError(f"Classifier was given {name}={value!r}; it takes {takes}.")
        if int(self.seed) < 0:
            raise UsageError(f"Classifier was given seed={self.seed}; it takes a whole number from 0.")

    def _shown(self, meter: Meter | None) -> AbstractContextManager[Meter]:
        return Bar() if meter is None and self.verbose else nullcontext(meter or Silent())

    def predict(self, X: Clouds) -> Shaped[np.ndarray, " n"]:
        """The class of each cloud or file, as it was named to ``fit``; arguments and errors as ``predict_proba``."""
        found = self.predict_proba(X).argmax(axis=1)
        return self.classes_[found]

    def predict_proba(self, X: Clouds) -> Float32[np.ndarray, "n c"]:
        """Probabilities ``[n, classes]``, in the order of ``classes_``.

        A folder stands for all files in it, those in its sub-folders too, in the order of their paths.

        Raises:
            UsageError: before ``fit``.
            DataError: clouds that cannot be used.
        """
        model = self._fitted()
        points = torch.from_numpy(_stack(X, model.backbone.points, self._frame)[0])
        where = next(model.parameters()).device
        with torch.inference_mode():
            parts = [model(part.to(where)).softmax(dim=1).cpu() for part in points.split(32)]
        return torch.cat(parts).numpy()

    def score(self, X: Clouds, y: Labels, sample_weight: Shaped[np.ndarray, " n"] | None = None) -> float:
        """Accuracy on these clouds.

        Raises:
            UsageError: not one label a cloud, or before ``fit``.
            DataError: clouds that cannot be used.
        """
        given, found = _labels(y), self.predict(X)
        _check_length(len(found), given)
        return float(np.average(found == given, weights=sample_weight))

    def save(self, path: str | Path) -> None:
        """Write the model with the frame of its clouds, for ``wisetune predict``. ``wisetune.save_model`` writes the model without the frame.

        Raises:
            UsageError: before ``fit``.
            StorageError: the file cannot be written.
        """
        save_model(path, self._fitted(), told(self._frame))

    def _fitted(self) -> Model:
        if self.model_ is None:
            raise UsageError("this Classifier is not fitted yet; call fit first.")
        return self.model_

    def __sklearn_is_fitted__(self) -> bool:
        return self.model_ is not None


def _stack(clouds: Clouds, points: int, frame: FileTask) -> tuple[Float32[np.ndarray, "n {points} 3"], int]:
    """Clouds or files in the model's frame, and how many of them had fewer points than that, so that some are repeated."""
    try:
        items = spread([clouds]) if isinstance(clouds, (str, Path)) else list(clouds)
    except TypeError:
        kind = type(clouds).__name__
        raise DataError(f"clouds are {kind}; give an array [n, p, 3], a list of arrays [p, 3] or of files, or a folder.") from None
    if not items:
        raise DataError("no clouds were given; give at least one array [p, 3] or one file.")
    looked = [_look(item, f"cloud {row}", points, frame) for row, item in enumerate(items)]
    bad = [wrong for wrong in looked if isinstance(wrong, DataError)]
    if len(bad) == 1:
        raise bad[0]
    if bad:
        lines = [*map(str, bad[:_SHOWN]), *([f"and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else [])]
        raise DataError("\n  ".join([f"{len(bad)} of {len(items)} clouds cannot be used; leave them out:", *lines]))
    fine = [one for one in looked if not isinstance(one, DataError)]
    return np.stack([cloud for cloud, _ in fine]), sum(few for _, few in fine)


def _look(
    item: str | Path | np.ndarray, name: str, points: int, frame: FileTask
) -> tuple[Float32[np.ndarray, "{points} 3"], bool] | DataError:
    """One cloud in the model's frame and whether it had too few points, or what is wrong with it."""
    try:
        return _one(item, name, points, frame)
    except DataError as error:
        return error


def _one(item: str | Path | np.ndarray, name: str, points: int, frame: FileTask) -> tuple[Float32[np.ndarray, "{points} 3"], bool]:
    shape = _shape(item, name, frame)
    cloud = framed(frame, shape, points, str(item) if isinstance(item, (str, Path)) else name)
    return cloud, isinstance(shape, Cloud) and len(shape.points) < points


def _shape(item: str | Path | np.ndarray, name: str, frame: FileTask) -> Shape:
    if isinstance(item, (str, Path)):
        return read(Path(item), nonfinite=unasked(frame))
    cloud = np.asarray(item)
    if cloud.ndim != 2 or cloud.shape[1] != 3 or cloud.dtype.kind not in "fiu":
        hint = " One cloud alone is clouds[None]." if cloud.shape == (3,) else ""
        raise DataError(f"{name} is {cloud.dtype} {list(cloud.shape)}; a cloud is numbers [points, 3].{hint}")
    try:
        return sound(Cloud(cloud.astype(np.float64)), unasked(frame))
    except MalformedError as error:
        raise DataError(f"{name}: {error.wrong} ({error.do})") from None


def _labels(labels: Labels) -> Shaped[np.ndarray, " n"]:
    """Labels of one kind, in their own type."""
    given = np.asarray(labels)
    if given.dtype.kind == "O" and all(isinstance(label, str) for label in given.ravel()):
        given = given.astype(np.str_)  # a column of a data frame
    if given.ndim != 1 or given.dtype.kind not in "biuU":
        raise UsageError(f"labels are {given.dtype} {list(given.shape)}; give one text or one whole number a cloud, all of one kind.")
    return given


def _check_length(clouds: int, labels: Shaped[np.ndarray, " n"]) -> None:
    if clouds != len(labels):
        raise UsageError(f"{counted(clouds, 'cloud', 'was', 'were')} given with {counted(len(labels), 'label')}; each cloud needs one.")


def _data_of(points: Float32[np.ndarray, "n p 3"], repeated: int, labels: Shaped[np.ndarray, " m"]) -> Data:
    """Arrays with labels as data: 20 % of each class are held out for validation, as a folder's, none for a test.

    ``repeated`` is how many clouds had fewer points than they have here.
    """
    _check_length(len(points), labels)
    known, rows = np.unique(labels, return_inverse=True)
    classes = tuple(map(str, known.tolist()))
    if len(classes) < 2:
        raise DataError(f"all labels are {', '.join(classes) or 'missing'}; a classifier needs at least two classes.")
    rows = rows.astype(np.int64)
    names = tuple(f"{row:06d}" for row in range(len(labels)))
    part = np.array(assign(rows, names, names, (None,) * len(rows), _HELD_OUT, 0.0, _SPLIT))
    every = Split(points, rows, names)
    splits = {name: every.take(np.flatnonzero(part == name)) for name in ("train", "val", "test")}
    protocol = {"val": f"{_HELD_OUT} of all, by class", "seed": _SPLIT, "normalise": "sphere", "repeated": repeated}
    return Data(_ARRAYS, classes, **splits, protocol=protocol)
