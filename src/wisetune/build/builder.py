"""From a recipe to a model: ask the store, else build the parents, then this node. The only recursion in the project."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from wisetune.build.grafts import check_grafts, grafts_of
from wisetune.build.kept import check_keeps, prepare, unaugmented
from wisetune.build.meter import HEAD, KEEP, LOOK, MIX, TRAIN, Meter, Silent
from wisetune.data.task import Data, Split
from wisetune.errors import UsageError, WeightsError
from wisetune.fit.finetune import Labelled, tune
from wisetune.fit.fit import Fit
from wisetune.keep.penalty import Penalty
from wisetune.nets.backbone import Backbone, BackboneSpec, build_empty
from wisetune.nets.features import FeatureBank
from wisetune.nets.files.carded import same_bits
from wisetune.nets.heads import Head
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Recipe, Start, Tune, describe, digest, in_words
from wisetune.runtime import stamp
from wisetune.store.store import Store
from wisetune.tune.folding import fold
from wisetune.tune.tuned import graft, tuned_model
from wisetune.tune.tuning import Tuning, resting
from wisetune.weights.audit import audit
from wisetune.weights.batchnorm import reestimate_on, trained_norms
from wisetune.weights.merge import Merge, with_shares
from wisetune.weights.mix import mixable
from wisetune.weights.wise import Wise

_KEPT = 6
"""Models kept in memory; a sweep needs its two ends at every step."""

_GROUPED = 256
"""Clouds that are cut into patches at once."""

State = dict[str, torch.Tensor]


def build(recipe: Recipe, store: Store, data: Callable[[str], Data], device: torch.device, meter: Meter | None = None) -> Model:
    """The model of a recipe: all that is needed is the recipe, a store that has its starts, and the data that it names.

    Raises:
        WeightsError: the store does not have the pre-trained weights.
        TrainingError: a loss that is not finite.
        StorageError: the store cannot be written.
    """
    return Builder(store, data, FeatureBank(device), meter or Silent()).model(recipe)


def keep_start(store: Store, start: Start, backbone: Backbone) -> None:
    """Commit pre-trained weights, which all deltas of a store build on, to that store, if it does not have them whole.

    Raises:
        StorageError: the store cannot be written.
    """
    if store.load(digest(start)) is None:
        store.commit(start, _copy(backbone.state_dict()), [], {})


class Builder:
    """Builds models of recipes over one store.

    ``data`` gives the task of a training digest; starts are in the store (``keep_start``). ``called`` names a recipe to whoever watches. Models that
    it returns are in eval mode and shared: do not change them.
    """

    def __init__(
        self, store: Store, data: Callable[[str], Data], bank: FeatureBank, meter: Meter, called: Callable[[Recipe], str] = in_words
    ) -> None:
        self.store, self.data, self.bank, self.meter, self.called = store, data, bank, meter, called
        self._models: OrderedDict[str, Model] = OrderedDict()

    def model(self, recipe: Recipe) -> Model:
        """The model of a recipe, built if the store does not have it.

        Raises:
            UsageError: it mixes what cannot be mixed, a tuning cannot graft, or a penalty has nothing to hold.
            TrainingError: a loss that is not finite.
            StorageError: the store cannot be written.
        """
        name = digest(recipe)
        if name not in self._models:
            check_grafts(recipe)
            check_keeps(recipe)
            self._models[name] = self._build(recipe, name).to(self.bank.device).eval()
        self._models.move_to_end(name)
        while len(self._models) > _KEPT:
            self._models.popitem(last=False)
        return self._models[name]

    def noted(self, recipe: Recipe) -> str:
        """What a reader should know of the training of a recipe that was built, of its penalty and of its grafts, in words; empty for most."""
        stored = self.store.load(digest(recipe)) if isinstance(recipe, Tune) else None
        if stored is None:
            return ""
        held = stored.extra.get("penalty", {})
        zero = (
            f"of {held['held_values']:,} held values {held['fisher_zero']:,} have a Fisher information of exactly 0"
            if "fisher_zero" in held
            else ""
        )
        return "; ".join(filter(None, (zero, stored.extra.get("found", {}).get("found", ""))))

    def log(self, recipe: Recipe) -> list[dict[str, Any]]:
        """The training log or the merge audit of a recipe that was built."""
        stored = None if isinstance(recipe, Start) else self.store.load(digest(recipe))
        return [] if stored is None else list(stored.log)

    def _build(self, recipe: Recipe, name: str) -> Model:
        if isinstance(recipe, Start):
            return Model(self._start(recipe, name), nn.Identity())
        # What a parent's model and the stored tensors make together is the model: only what changed is stored.
        model = self._skeleton(recipe)
        ungrafted = set(model.state_dict())
        if isinstance(recipe, Tune):
            if recipe.head_from == "fresh":
                model = self._headed(recipe, model)
                ungrafted |= {key for key in model.state_dict() if model.unreleased(key) is not None}
            elif recipe.grafts is not None:
                assert isinstance(recipe.grafts, Tuning)
                graft(recipe.grafts, model, recipe.seed)
            model.to(self.bank.device)
        before = _copy(model.state_dict())
        stored = self.store.load(name)
        if stored is None:
            with self.store.lock(name, wait=True, tell=self.meter.tell):
                stored = self.store.load(name)
                if stored is None:
                    log, extra = self._train(recipe, name, model) if isinstance(recipe, Tune) else self._mix(recipe, model)
                    after = _copy(model.state_dict())
                    # All of a graft, so that nothing stored depends on how initial values are drawn.
                    changed = {key: value for key, value in after.items() if key not in ungrafted or not same_bits(value, before[key])}
                    self.store.commit(recipe, changed, log, extra, stamp(str(self.bank.device)))
                    return model
        model.load_state_dict({**before, **stored.tensors})
        return model

    def _start(self, start: Start, name: str) -> Backbone:
        assert isinstance(start.backbone, BackboneSpec)
        stored = self.store.load(name)
        if stored is None:
            raise WeightsError(
                f"the pre-trained weights {describe(start)} are not in the store {self.store.root}. Run the command that made it again, "
                "with these weights."
            )
        backbone = build_empty(start.backbone)
        backbone.load_state_dict(stored.tensors, assign=True)
        return backbone

    def _skeleton(self, recipe: Tune | Mix) -> Model:
        """The model before this node's work: the parent's backbone, and its head unless this node has a fresh one."""
        if isinstance(recipe, Mix):
            return copy.deepcopy(self._part(recipe, recipe.parts[-1]))
        parent = self.model(recipe.start)
        if recipe.head_from == "start":
            if parent.headless:
                raise UsageError(f"{describe(recipe)} begins with its parent's head, but {describe(recipe.start)} has none.")
            _check_classes(recipe, parent, self.data(recipe.task).classes)
            return copy.deepcopy(parent)
        return Model(copy.deepcopy(parent.backbone), nn.Identity())

    def _part(self, recipe: Mix, part: Recipe) -> Model:
        """A part of a mix, as it is mixed; do not change it."""
        model = self.model(part)
        made = fold(model) if recipe.fold else model
        assert isinstance(made, Model)
        return made

    def _headed(self, recipe: Tune, model: Model) -> Model:
        """The model with what was grafted, and a fresh head, which sees what the backbone gives with it."""
        assert recipe.grafts is None or isinstance(recipe.grafts, Tuning)
        assert isinstance(recipe.head, Head)
        made = tuned_model(model.backbone, recipe.grafts, recipe.head, self.data(recipe.task).classes, seed=recipe.seed)
        assert isinstance(made, Model)
        return made

    def _train(self, recipe: Tune, name: str, model: Model) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        assert isinstance(recipe.tuning, Tuning)
        assert isinstance(recipe.fit, Fit)
        data = self.data(recipe.task)
        frozen = None if recipe.tuning.moves_features else digest(backbone_of(recipe))
        called = self.called(recipe)
        self.meter.stage(f"training {called}")
        parameters = recipe.tuning.freeze(model)
        extra: dict[str, Any] = {"trained": sum(value.numel() for value in parameters.values())}
        if recipe.grafted is not None:
            extra["statistics"] = self._settle(recipe, model, data.train)
        term = None
        if isinstance(recipe.keep, Penalty):
            self.meter.stage(f"preparing {recipe.keep} of {called}")
            term, extra["penalty"] = prepare(recipe, self.model(recipe.start), model, parameters, data.train)
            self.meter.advance(recipe.keep.cost(len(data.train), len(data.classes)), KEEP)
            self.meter.stage(f"training {called}")
        kind, made = kinds_of(recipe)

        def progress(done: int, epochs: int, line: Mapping[str, float]) -> None:
            nonlocal made
            self.meter.stage(f"training {called}: epoch {done} of {epochs}, loss {line['loss']:.4f}")
            if made:  # before the first epoch, beside which that epoch is nothing
                self.meter.advance(len(data.train), LOOK)
                made = False
            self.meter.advance(len(data.train), kind)

        log = tune(
            model,
            parameters,
            recipe.fit,
            _labelled(data.train),
            _labelled(data.val),
            recipe.seed,
            frozen_key=frozen,
            in_training=recipe.tuning.in_training(model),
            first=resting(recipe.tuning, model),
            decaying=recipe.tuning.decaying(model),
            bank=self.bank,
            term=term,
            own=recipe.tuning.term,
            resume=Resume(self.store, name),
            progress=progress,
        )
        for value in model.parameters():
            value.requires_grad_(False)
        if recipe.tuning.looks_back:
            found = recipe.tuning.look_back(model, lambda: self._look(recipe, model, data.train))
            extra["found"] = {"found": found.words, **found.facts}
            self.meter.tell(f"{called}: {found.words}.")
        weight = {"penalty_weight": recipe.keep.weight} if isinstance(recipe.keep, Penalty) else {}
        return [{**line, **weight} for line in log], extra

    def _settle(self, recipe: Tune, model: Model, train: Split) -> dict[str, Any]:
        """Statistics of grafted BatchNorms, which have seen nothing: else a head would read what no training by these grafts begins with."""
        groups, rows = unaugmented(recipe, model, train, "statistics"), np.arange(len(train))
        parts = [groups(rows[at : at + _GROUPED]) for at in range(0, len(rows), _GROUPED)]
        among = {f"backbone.{name}" for name in model.backbone.grafts[-1].names}
        return reestimate_on(model, tuple(torch.cat(column) for column in zip(*parts, strict=True)), among=among)

    def _look(self, recipe: Tune, model: Model, train: Split) -> None:
        """Every training cloud once through a trained backbone."""
        self.meter.stage(f"looking back at {self.called(recipe)}")
        groups = unaugmented(recipe, model, train, "look back")
        for rows in np.array_split(np.arange(len(train)), range(self.bank.batch, len(train), self.bank.batch)):
            with torch.inference_mode():
                model.encode(groups(rows))
            self.meter.advance(len(rows), LOOK)

    def _mix(self, recipe: Mix, model: Model) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        assert isinstance(recipe.merge, Merge)
        self.meter.stage(f"mixing {self.called(recipe)}")
        states = with_shares([mixable(self._part(recipe, part).backbone, is_start=isinstance(part, Start)) for part in recipe.parts])
        merged = recipe.merge.merge(states)
        alpha = recipe.merge.alpha if isinstance(recipe.merge, Wise) else None
        lines = audit(states, merged, alpha)
        model.backbone.load_state_dict(merged)
        if recipe.task is not None:
            train = self.data(recipe.task).train
            groups = self.bank.groups(model, train.points, train.digest)
            among = None if recipe.norms == "all" else trained_norms(model, states)
            lines.append({"audit": "batchnorm", "ok": True, **reestimate_on(model, groups, among=among)})
            self.meter.advance(len(train), MIX)
        return lines, {"alpha": alpha}


def kinds_of(recipe: Tune) -> tuple[str, bool]:
    """What kind of work an epoch of a training is, and whether features are made before the first (``tune``)."""
    assert isinstance(recipe.tuning, Tuning)
    assert isinstance(recipe.fit, Fit)
    if recipe.tuning.moves_features:
        return TRAIN, False
    return (HEAD, True) if recipe.fit.same_clouds else (LOOK, False)


def backbone_of(recipe: Recipe) -> Recipe:
    """The recipe whose backbone a recipe's model has: what changes the head alone, and mixes at their ends, are looked through."""
    match recipe:
        case Tune(tuning=Tuning() as tuning) if not tuning.moves_features and grafts_of(recipe) == grafts_of(recipe.start):
            return backbone_of(recipe.start)
        case Mix(merge=Wise(alpha=1.0), task=None, fold=False):
            return backbone_of(recipe.parts[-1])
        case Mix(merge=Wise(alpha=0.0), task=None, fold=False, parts=(Start(backbone=BackboneSpec() as spec) as start, tuned)) if _complete(
            spec
        ):
            # Grafts that count for nothing may still have changed what a head looks at.
            return recipe if grafts_of(tuned) else start
        case _:
            return recipe


@functools.cache
def _complete(spec: BackboneSpec) -> bool:
    """Whether every part has a pre-trained value, so that at alpha = 0 there is the start and nothing of the fine-tuned model."""
    return not build_empty(spec).anatomy.fresh


class Resume:
    """A training's state in the store."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name

    def load(self) -> tuple[State, dict[str, Any]] | None:
        """The newest sound state."""
        return self.store.load_state(self.name)

    def save(self, tensors: State, meta: dict[str, Any]) -> None:
        """Keep a state."""
        self.store.save_state(self.name, tensors, meta)


def _check_classes(recipe: Tune, parent: Model, classes: tuple[str, ...]) -> None:
    if parent.classes != classes:
        raise UsageError(
            f"{describe(recipe)} begins with the head of {describe(recipe.start)}, which knows other classes "
            f"({', '.join(parent.classes[:5])}) than the task ({', '.join(classes[:5])}). Begin with a fresh head."
        )


def _labelled(split: Split) -> Labelled:
    return Labelled(split.points, split.labels, split.names, split.digest)


def _copy(state: dict[str, Any]) -> State:
    return {key: value.detach().clone() for key, value in state.items()}
