"""Pre-training of a point-cloud backbone from unlabelled shapes: masked reconstruction, and a contrast between two masked views.

Every view of a shape is a fresh subset of its points in a fresh order (so the patches differ), rotated about the shape's up axis, scaled per
axis, shifted and jittered, and mostly hidden. Reconstruction teaches local shape; the contrast teaches what stays when view, pose and visible part
change, which is what a linear probe can use.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import nn

from wisetune.errors import UsageError
from wisetune.fit.loop import Course, Progress, Resume, Training, decay_groups, train
from wisetune.nets.backbone import Backbone, BackboneSpec
from wisetune.nets.create import masking_of
from wisetune.nets.masked import Projector, contrast, hide
from wisetune.points.augment import AUGMENTS, augmentation
from wisetune.points.neighbours import gather
from wisetune.runtime import drawing, torch_generator
from wisetune.spec import option

_REBUILT = 100
"""The reconstruction error is a squared distance of about a thousandth of the unit sphere's: this brings it to the size of the contrast.

(Of Point-M2AE's patches, which are wider, about a fiftieth: there the contrast weighs less unless ``rebuild`` is made smaller.)
"""


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Unlabelled clouds of one source, at least as many points each as a view takes, and the axis that points up in them."""

    points: Float[np.ndarray, "n p 3"]
    """Centred, unit sphere; half precision saves memory."""
    up: Literal["y", "z"] = "z"


@dataclasses.dataclass(frozen=True)
class Pretrain(Course):
    """Options of pre-training: the loss is ``rebuild`` times the reconstruction error plus ``contrast`` times the InfoNCE term.

    With ``contrast`` 0 there is one view of each shape, as in Point-MAE. ``mask`` and ``decoder_depth`` are the backbone's own unless given.
    ``block`` is the share of batches that hide a region, ``turned`` that of views turned by any angle about the up axis; the others stay as they
    are in their files.
    """

    name: ClassVar[str] = "masked"

    epochs: int = option(300, least=1, means="how often every shape is trained on")
    batch: int = option(128, least=2, means="shapes a training step; the contrast is among them")
    lr: float = option(1e-3, above=0, means="the learning rate at its highest")
    warmup: float = option(10.0, least=0, means="epochs in which the learning rate rises; at most half of all")
    mask: float | None = option(None, above=0, below=1, means="share of the patches that is hidden; none is the backbone's own")
    block: float = option(0.5, least=0, most=1, means="share of the batches that hide a region, not patches at random")
    contrast: float = option(0.1, least=0, means="weight of the contrast between two views; 0 for one view")
    rebuild: float = option(1.0, least=0, means="weight of the reconstruction")
    temperature: float = option(0.1, above=0, means="of the contrast: small sets near views apart more sharply")
    decoder_depth: int | None = option(None, least=1, means="blocks of the decoder, which is thrown away after; none is the backbone's own")
    augment: str = option("scale-translate", means=AUGMENTS)
    turned: float = option(1.0, least=0, most=1, means="share of the views turned by any angle about the up axis")
    seed: int = option(0, means="every draw follows from it")

    def __post_init__(self) -> None:
        super().__post_init__()
        augmentation(self.augment)
        if self.contrast == self.rebuild == 0:
            raise UsageError(f"'{self.name}' was given contrast=0 and rebuild=0, and then nothing is learnt; give one of them a weight.")

    def of(self, backbone: BackboneSpec) -> Pretrain:
        """These options, with the backbone's own where they are not given.

        Raises:
            UsageError: it cannot be pre-trained.
        """
        own = masking_of(type(backbone))
        given = {"mask": self.mask, "decoder_depth": self.decoder_depth}
        return dataclasses.replace(self, **{name: getattr(own, name) if value is None else value for name, value in given.items()})


class _Learner(nn.Module):
    """Everything that pre-training trains."""

    def __init__(self, backbone: BackboneSpec, decoder_depth: int) -> None:
        super().__init__()
        self.autoencoder = backbone.masked(decoder_depth)
        self.projector = Projector(self.autoencoder.encoder.feature_width)


def pretrain(
    backbone: BackboneSpec,
    shapes: Sequence[Shapes],
    options: Pretrain,
    resume: Resume | None = None,
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> tuple[Backbone, list[dict[str, float]]]:
    """Pre-train a backbone of this spec on unlabelled shapes; returns it in eval mode with the log.

    What its family's pre-training does not know is not in it: Point-MAE's class token, Point-M2AE's last norm of the classifier.
    On a CPU the same options, shapes and thread count give the same bits, killed and resumed or not.

    Raises:
        UsageError: a backbone that cannot be pre-trained, or a mask that hides nothing of it.
        TrainingError: a loss that is not finite.
    """
    where = device or torch.device("cpu")
    options = options.of(backbone)
    mask_ratio, depth = cast(float, options.mask), cast(int, options.decoder_depth)
    with drawing(options.seed, "initial"):
        learner = _Learner(backbone, depth)
    learner.to(where).train()
    model = learner.autoencoder
    views = _Views(shapes, model.encoder.points, options)

    def view(rows: Int64[np.ndarray, " m"], epoch: int, which: int) -> tuple[torch.Tensor, torch.Tensor]:
        draw = torch_generator(options.seed, "view", epoch, which, int(rows[0]))
        groups = model.encoder.group(views.draw(rows, draw).to(where))
        block = bool(torch.rand((), generator=draw) < options.block)
        mask = hide(model.places(groups), mask_ratio, block, draw)
        seen = model.encode(groups, mask)
        rebuilt = model.rebuild(groups, mask, seen) if options.rebuild > 0 else torch.zeros((), device=where)
        return model.pool(seen), rebuilt

    def loss(rows: Int64[np.ndarray, " m"], epoch: int) -> torch.Tensor:
        features, rebuilt = view(rows, epoch, 0)
        if options.contrast == 0:
            return options.rebuild * _REBUILT * rebuilt
        others, rebuilt_other = view(rows, epoch, 1)
        term = contrast(learner.projector(features), learner.projector(others), options.temperature)
        return options.rebuild * _REBUILT * (rebuilt + rebuilt_other) + options.contrast * term

    training = Training(learner, loss, len(views), decay_groups(dict(learner.named_parameters())))
    log = train(training, options.schedule, options.seed, resume, progress)
    return model.backbone(), log


class _Views:
    """Draws views of shapes from several sources, indexed as one list."""

    def __init__(self, shapes: Sequence[Shapes], points: int, options: Pretrain) -> None:
        self.shapes, self.points, self.options = shapes, points, options
        self.starts = np.cumsum([0, *[len(source.points) for source in shapes]])
        self.augment = augmentation(options.augment)
        self.turn = {up: augmentation(f"rotate-{up}") for up in ("y", "z")}

    def __len__(self) -> int:
        return int(self.starts[-1])

    def draw(self, rows: Int64[np.ndarray, " m"], generator: torch.Generator) -> Float[torch.Tensor, "m p 3"]:
        out = torch.empty(len(rows), self.points, 3)
        for source, start, stop in zip(self.shapes, self.starts, self.starts[1:], strict=False):
            here = (rows >= start) & (rows < stop)
            if not here.any():
                continue
            clouds = torch.from_numpy(source.points[rows[here] - start].astype(np.float32))
            chosen = torch.rand(clouds.shape[:2], generator=generator).argsort(dim=1)[:, : self.points]
            clouds = gather(clouds, chosen)
            moved = self.turn[source.up](clouds, generator)
            moves = torch.rand(len(clouds), generator=generator) < self.options.turned
            clouds = torch.where(moves[:, None, None], moved, clouds)
            out[torch.from_numpy(here)] = self.augment(clouds, generator)
        return out
