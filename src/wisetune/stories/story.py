"""What a story is: from one setting to named trees. The trees of all stories are made of the few functions here, so that equal parts are equal."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar, Literal

from wisetune.nets.backbone import BackboneSpec, build_empty
from wisetune.nets.heads import Head
from wisetune.recipe import NAMES, Mix, Recipe, Start, Tune
from wisetune.results import Variant, Words
from wisetune.spec import Spec
from wisetune.tune.full import FULL
from wisetune.tune.linear import Linear
from wisetune.tune.tuned import tuned_model
from wisetune.tune.tuning import Tuning
from wisetune.weights.batchnorm import NORMS
from wisetune.weights.wise import Wise

WORDS = {
    "ft": Words(NAMES["ft"], "every weight trained on the task"),
    "lp": Words(NAMES["lp"], "pre-trained backbone left as it is, only the head trained"),
    "lp-ft": Words(NAMES["lp-ft"], "linear probing first, then full fine-tuning from there"),
    "ft-low-lr": Words("fine-tuning, low rate", "full fine-tuning at a lower learning rate"),
}
"""Of the methods that several stories have."""


def words_of(tuning: Tuning) -> dict[str, Words]:
    """What is said of fine-tuning where it is not that of everything."""
    return {} if tuning == FULL else {"ft": Words(tuning.called, (type(tuning).__doc__ or "").splitlines()[0])}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a story is told about.

    ``task`` is the digest of the data that are trained and selected on; ``fit`` tunes whole models and ``head_fit`` heads alone; ``gentle_fit``
    is ``fit`` with a low learning rate, the plainest way to keep a backbone. ``complete`` says that every part of the start has a pre-trained
    value (no fresh class token): then alpha = 0 is the start itself.
    ``fit_task`` and ``head_task`` are the digests of what ``fit`` (and ``gentle_fit``) and ``head_fit`` train and select on where they ask for
    other clouds than the task's (more points to draw from, the test part to select on); None is ``task``. ``tuning`` is how the start is tuned
    where a story does not say it; its baselines are always whole fine-tunings. ``keep`` is the penalty of every training of a backbone.
    """

    start: Start
    task: str
    head: Spec
    fit: Spec
    gentle_fit: Spec
    head_fit: Spec
    seed: int
    complete: bool = True
    fit_task: str | None = None
    head_task: str | None = None
    tuning: Tuning = FULL
    keep: Spec | None = None


@dataclasses.dataclass(frozen=True)
class Story(Spec):
    """Base of every story; the fields of a subclass are its options.

    ``sweeps`` names the methods that have an alpha, the one to recommend first; ``reference`` the method that all are compared with.
    """

    sweeps: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[str] = "ft"
    costs: ClassVar[bool] = False
    """Whether it is told what each of its ways to tune the start costs: it takes a while."""

    @property
    def headline(self) -> str:
        """The method that the story is about, and recommends: the first sweep, else the method of its own name."""
        return self.sweeps[0] if self.sweeps else self.name

    @property
    def words(self) -> dict[str, Words]:
        """What pages say of its own methods; those of ``WORDS`` have theirs already. A method without is called by its name there."""
        return {}

    def said(self, tuning: Tuning) -> dict[str, Words]:
        """What pages say of methods where the start is tuned so."""
        return WORDS | words_of(tuning) | self.words

    def left_out(self, setting: Setting) -> dict[str, str]:
        """The methods that it would have if this start allowed them, and why it does not."""
        del setting
        return {}

    def recipes(self, setting: Setting) -> dict[Variant, Recipe]:
        """The trees of one seed by method and alpha."""
        raise NotImplementedError(f"{type(self).__name__} must define recipes")


@functools.cache
def norms_that_train(how: Tuning, backbone: BackboneSpec, head: Head) -> Literal["none", "all", "trained"]:
    """Of a model tuned so the BatchNorms whose statistics move, so that a mix with the start has to measure them again (``trained_norms``)."""
    if not how.moves_features:
        return "none"
    model = tuned_model(build_empty(backbone), how, head, ("a", "b"))
    every = {module for module in model.modules() if isinstance(module, NORMS)}
    moving = every.intersection(module for part in how.in_training(model) for module in part.modules())
    return "none" if not moving else "all" if moving == every else "trained"


def linear_probing(setting: Setting, start: Recipe | None = None) -> Tune:
    """A fresh head on a frozen backbone."""
    return Tune(start or setting.start, Linear(), setting.head, setting.head_task or setting.task, setting.head_fit, setting.seed)


def fine_tuning(setting: Setting) -> Tune:
    """What the setting's tuning trains, by itself everything, from a fresh head."""
    return tuning(setting, setting.tuning)


def tuning(setting: Setting, how: Tuning) -> Tune:
    """The start tuned so, from a fresh head."""
    return Tune(setting.start, how, setting.head, setting.fit_task or setting.task, setting.fit, setting.seed, keep=setting.keep)


def gentle_tuning(setting: Setting) -> Tune:
    """Full fine-tuning with a low learning rate."""
    return dataclasses.replace(tuning(setting, FULL), fit=setting.gentle_fit)


def probing_then_tuning(setting: Setting, how: Tuning = FULL) -> Tune:
    """LP-FT (Kumar et al. 2022): fine-tuning, gently, from the head that linear probing found, of the features that the tuning begins with."""
    probed = linear_probing(setting)
    if how.begins == "changed":
        probed = dataclasses.replace(probed, grafted=how)
    return dataclasses.replace(tuning(setting, how), fit=setting.gentle_fit, start=probed, head_from="start")


def wise(setting: Setting, alpha: float, reestimate: bool) -> Recipe:
    """The model at ``alpha`` between the start and full fine-tuning, with the fine-tuned head.

    At the end points nothing is mixed and so nothing is re-estimated: alpha = 1 is fine-tuning itself.
    """
    tuned = fine_tuning(setting)
    if alpha == 1.0:
        return tuned
    assert isinstance(setting.start.backbone, BackboneSpec)
    assert isinstance(setting.head, Head)
    norms = norms_that_train(setting.tuning, setting.start.backbone, setting.head) if reestimate and alpha != 0.0 else "none"
    return (
        Mix((setting.start, tuned), Wise(alpha)) if norms == "none" else Mix((setting.start, tuned), Wise(alpha), setting.task, norms=norms)
    )


def wise_probed(setting: Setting, alpha: float, reestimate: bool, warm: bool) -> Tune:
    """The backbone at ``alpha`` with a head trained anew on it (WiSE-FT-LP), or trained on from the fine-tuned one (``warm``)."""
    mixed = wise(setting, alpha, reestimate)
    if warm:
        return dataclasses.replace(linear_probing(setting, mixed), head_from="start")
    return linear_probing(setting, setting.start if alpha == 0.0 and setting.complete else mixed)
