"""PointLoRA: LoRA, and prompts that a score selects among a cloud's patches at several scales."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets._linear import Linear
from wisetune.nets.headed import Headed
from wisetune.nets.readout import with_extra_peaks
from wisetune.nets.transformer import PatchTokens
from wisetune.points.neighbours import gather
from wisetune.spec import option
from wisetune.tune._low_rank import LowRank
from wisetune.tune._patch_prompts import PatchPrompts, PatchPromptTuning, ReadoutShare, small
from wisetune.tune.graft import WHOLE
from wisetune.tune.tuning import Figures, Published

_LEAST = 1e-6
_WEIGHT = 0.25
"""Of each scale's penalty beside that of the one before it."""


_UNSCALED = "alpha is 8, as r is; the code works alpha / r out and does not use it, so that with another r it would count for nothing."
_PENALTY = "The scores learn by a penalty alone, which draws each to one half; the choice has no gradient."
_AGAIN = "Tokens of both scales are made anew, those of the backbone's own patches too: in training the tokenizer's statistics drift three times."


class Selection(PatchPrompts):
    """Prompts by score, and bottlenecks beside the maps of queries, keys and values and behind attention, which all blocks share."""

    def __init__(self, width: int, hidden: int, scales: tuple[tuple[int | None, int], ...], penalty: float | None) -> None:
        super().__init__(width, hidden)
        self.qkv, self.proj = small(width, hidden, 3 * width), small(width, hidden)
        self.inner, self.outer = Linear(width, max(1, width // 2)), Linear(max(1, width // 2), 1)
        self.scales, self.penalty = scales, penalty
        self._owed: torch.Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what a step owes: no copy of a model can hold what a gradient flows through."""
        return {**self.__dict__, "_owed": None}

    def owed(self) -> torch.Tensor | None:
        """The penalty of the last forward pass in training, once."""
        owed, self._owed = self._owed, None
        return owed

    def score(self, tokens: Float[torch.Tensor, "b g d"]) -> Float[torch.Tensor, "b g"]:
        """Between 0 and 1, of each token."""
        return torch.sigmoid(self.outer(F.relu(self.inner(tokens)))).squeeze(-1)

    def prompt(self, own: PatchTokens, further: tuple[PatchTokens, ...]) -> PatchTokens:
        """Of each scale those of the highest scores; of equal ones that with the lower index."""
        chosen: list[tuple[torch.Tensor, ...]] = []
        scores: list[torch.Tensor] = []
        for cut, count in self.scales:
            among = own if cut is None else further[cut]
            score = self.score(among.tokens)
            best = score.detach().sort(dim=1, descending=True, stable=True).indices[:, :count]
            tokens, position, centres = (gather(part, best) for part in among)
            if self.penalty is None:
                # The value stays, and the gradient of how much a token counts is its score's.
                at = score.gather(1, best).unsqueeze(-1)
                tokens = tokens * (1 + (at - at.detach()))
            chosen.append((tokens, position, centres))
            scores.append(score)
        tokens, position, centres = (torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True))
        if self.penalty is not None and self.training and torch.is_grad_enabled():
            self._owed = self.penalty * _negative_entropy(scores)
        return PatchTokens(tokens, position, centres)


def _negative_entropy(scores: list[Float[torch.Tensor, "b _"]]) -> Float[torch.Tensor, ""]:
    """Of scores as probabilities, the mean over each scale."""
    each = [(p * (p + _LEAST).log() + (1 - p) * (1 - p + _LEAST).log()).mean() for p in scores]
    return torch.stack([_WEIGHT**scale * value for scale, value in enumerate(each)]).sum()


@dataclasses.dataclass(frozen=True)
class PointLoRA(PatchPromptTuning):
    """Low rank with token selection (Wang et al., CVPR 2025, section 3): ``W x + (alpha / r) B A x + P(x)`` at both maps of attention.

    ``P`` is a map ``U gelu(D x + d) + u`` that all blocks share, one for either. Prompts are the tokens of the highest scores
    ``sigmoid(w relu(V t + v) + c)`` among those of the cloud's patches, and among half as many patches of twice the points; before each block two
    more shared maps are added, of patches and of prompts. The map of positions and the first half of the tokenizer train too; maxima that a head
    sees are over patches and prompts.

    A choice has no gradient. As published the scores learn by a penalty alone, which a step adds to its loss (``term``): their negated entropy, which
    draws each to one half, whatever the task is. As intended a chosen token passes the gradient of how much it counts to its score; its value stays.
    As published too, patches that are the backbone's own are made once more, so that in training the tokenizer's statistics drift more than once.

    It begins changed: the shared maps begin small and not at nothing. In a pyramid each level selects among its own.
    """

    name: ClassVar[str] = "pointlora"
    title: ClassVar[str] = "PointLoRA"
    figures: ClassVar[Figures | None] = Figures(0.77, 85.53, "Wang et al., CVPR 2025")
    begins: ClassVar[Literal["unchanged", "changed"]] = "changed"
    lasting: ClassVar[str] = "its prompts are made of each cloud anew"

    rank: int = option(8, least=1, most=1 << 10, means="columns of the thin matrices")
    alpha: float | None = option(None, above=0, means="the product counts alpha / rank; none: as it is")
    hidden: int | None = option(
        None, least=1, most=1 << 13, means="width of the shared bottlenecks; none: a twelfth of the tokens', as published, where it is 32"
    )
    selected: tuple[int, ...] = option(
        (32, 8), least=1, most=1 << 14, means="prompts of each scale; where it has fewer patches, all of them"
    )
    groups: tuple[int, ...] = option(
        (), least=1, most=1 << 14, means="patches of each scale; none given: the backbone's, and then half as many each time"
    )
    group_sizes: tuple[int, ...] = option(
        (),
        least=1,
        most=1 << 14,
        means="points, or patches below, of a patch of each scale; none given: the backbone's, and then twice as many",
    )
    penalty: float = option(0.004, least=0, means="how much the negated entropy of scores counts, as published")
    readout: Literal["all", "tokens"] = option("all", means="maxima that a head sees are over prompts too; or it sees what it would")

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """The one that was released; the sizes of scales and prompts stand in the code."""
        thin = {"rank": 8, "alpha": None, "hidden": 32}
        scales = {"selected": (32, 8), "groups": (128, 64), "group_sizes": (32, 64), "penalty": 0.004, "readout": "all"}
        source, differs = "PointLoRA cfgs/finetune_scan_hardest_pointlora.yaml", (WHOLE, _UNSCALED, _PENALTY, _AGAIN)
        return {"scan-hardest": Published(thin | scales, source, differs)}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("groups", "group_sizes"):
            if len(getattr(self, name)) not in (0, len(self.selected)):
                raise UsageError(
                    f"'{self.name}' has selected={self.selected} and {name}={getattr(self, name)}; give one number for each scale, or leave it out."
                )
        if not self.selected:
            raise UsageError(f"'{self.name}' has no scale; selected takes one number for each, such as selected=32+8.")

    def graft(self, model: Headed) -> None:
        """Pairs of matrices for each block, prompts and shared maps for each stack of them."""
        backbone = model.backbone
        self.refuse_ragged(backbone)
        factor, count = 1.0 if self.alpha is None else self.alpha / self.rank, 0
        for number, stage in enumerate(backbone.anatomy.stages):
            self.refuse_wide(self.rank, stage.width, stage.blocks)
            scales = tuple(self._scale(model, number, scale) for scale in range(len(self.selected)))
            hidden = max(1, stage.width // 12) if self.hidden is None else self.hidden
            penalty = self.penalty if self.reading == "as_published" else None
            prompts, count = Selection(stage.width, hidden, scales, penalty), sum(few for _, few in scales)
            self.place(model, stage, prompts, count)
            for site in stage.sites:
                for place, shared in ((site.qkv, prompts.qkv), (site.proj, prompts.proj)):
                    linear = backbone.get_submodule(place)
                    assert isinstance(linear, nn.Linear)
                    graft = self.put(model, place, LowRank(linear.in_features, linear.out_features, self.rank, factor, (slice(None),)))
                    linear.register_forward_hook(graft.after)
                    linear.register_forward_hook(shared.parallel)
        if self.readout == "all":
            last = backbone.anatomy.norms[-1]
            read = self.put(model, last, ReadoutShare(count, backbone.leads))
            backbone.get_submodule(last).register_forward_hook(read.lowered)
            backbone.readout = with_extra_peaks(backbone.readout)

    def term(self, model: Headed) -> torch.Tensor | None:
        """As published the penalty of all levels' scores. A training loop of one's own adds it to its loss after each forward pass."""
        if self.reading == "as_intended":
            return None
        owed = [self.mine(model, stage.blocks, Selection).owed() for stage in model.backbone.anatomy.stages]
        found = [penalty for penalty in owed if penalty is not None]
        return torch.stack(found).sum() if found else None

    def _scale(self, model: Headed, number: int, scale: int) -> tuple[int | None, int]:
        """Of one scale of one stage: which further patches they are, none for the stage's own patches; and how many prompts are selected there."""
        stages = model.backbone.anatomy.stages
        own, below = (stages[number].groups, stages[number].group_size), stages[number - 1].groups if number else model.backbone.points
        groups = self.groups[scale] if self.groups else max(1, own[0] >> scale)
        size = self.group_sizes[scale] if self.group_sizes else min(below, own[1] << scale)
        again = (groups, size) == own and self.reading == "as_intended"
        return None if again else self.cut(model.backbone, number, groups, size), min(self.selected[scale], groups)
