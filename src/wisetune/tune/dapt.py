"""DAPT: adapters that a token's own scale opens, whose work makes prompts, and scale and shift everywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn
from torch.utils.checkpoint import checkpoint

from wisetune.errors import UsageError, counted, first_of
from wisetune.nets._linear import Linear, linear
from wisetune.nets.grafts import told
from wisetune.nets.headed import Headed
from wisetune.nets.model import Model
from wisetune.nets.readout import EXTRA, with_extra
from wisetune.nets.transformer import Block
from wisetune.nets.uncalled import Uncalled
from wisetune.spec import option
from wisetune.tune._affine import Affine, first_heard, recorded, scale_block
from wisetune.tune._tokens import AttentionShare, ReadoutShare, joined
from wisetune.tune.graft import WHOLE, Graft, Grafting
from wisetune.tune.tuning import Figures, Found, Published

_SLOT = "dapt"
"""Under which DAPT grafts, also for what finds its neighbours there; a compiler cannot ask the tuning for it."""


class DynamicAdapter(Graft, Uncalled):
    """``relu(w LN(z) + b) * [U gelu(D LN(z) + d) + u]`` (Zhou et al., CVPR 2024, eq. 5 and 6): the first factor is one number a token.

    All that its gradient needs is computed again from ``z``. Where that factor is nothing for every token, so is every gradient here (``open_shares``).
    """

    def __init__(self, width: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.scale = nn.LayerNorm(width), nn.Linear(width, 1)
        self.down, self.up, self.drop = Linear(width, rank), Linear(rank, width), nn.Dropout(dropout)
        nn.init.zeros_(self.scale.bias)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, z: Float[torch.Tensor, "b t d"]) -> Float[torch.Tensor, "b t d"]:
        """What it adds to what the MLP gives."""
        x = self.norm(z)
        inside = self.drop(F.gelu(self.down(x)))
        return F.relu(self.scale(x)) * linear(inside, self.up.weight * self.share, self.up.bias * self.share)

    def uncalled_macs(self, *inputs: torch.Tensor) -> int:
        """The map up."""
        return inputs[0][..., 0].numel() * self.up.weight.numel()

    def summed(self, z: Float[torch.Tensor, "b t d"]) -> tuple[Float[torch.Tensor, "b t d"], Float[torch.Tensor, "b d"]]:
        """The same, and the mean over tokens of its GELU, of which a prompt is made."""
        added = self(z)
        return added, F.gelu(added).mean(dim=1)


class DynamicBlock(nn.Module):
    """What one block gets: an adapter beside its MLP, and a prompt made of the adapter's work, which joins the tokens behind it."""

    def __init__(self, width: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.adapter = DynamicAdapter(width, rank, dropout)
        self.affine = Affine(width)
        self._entered: tuple[nn.LayerNorm, Affine, torch.Tensor, torch.Tensor] | None = None
        self._made: torch.Tensor | None = None

    def enter(self, module: nn.LayerNorm, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        """Behind the norm before the MLP and its scale and shift: what the norm keeps anyway is all that the adapter's gradient needs."""
        affine = module.get_submodule(_SLOT)
        assert isinstance(affine, Affine)
        if recorded() and first_heard(module, affine.after_norm, self.enter):
            self._entered = module, affine, inputs[0], output

    def adapt(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """Of the MLP; the prompt waits until the block is done."""
        entered, self._entered = self._entered, None
        if not recorded():
            added, mean = self.adapter.summed(inputs[0])
        elif entered is None or entered[-1] is not inputs[0]:  # another tuning changed it on its way
            added, mean = checkpoint(self.adapter.summed, inputs[0], use_reentrant=False)
        else:
            added, mean = checkpoint(self._again, *entered[:-1], use_reentrant=False)
        self._made = self.affine(mean)
        return output + added

    def _again(self, norm: nn.LayerNorm, affine: Affine, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.adapter.summed(affine(F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)))

    def lengthen(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        """Of the block: its tokens and the prompt."""
        made, self._made = self._made, None
        assert made is not None
        return joined(output, made.unsqueeze(1))


@torch.no_grad()
def open_shares(model: Model, points: torch.Tensor) -> dict[str, float]:
    """Of each block's adapter the share of tokens of these clouds that it does anything for, by block.

    At 0 it has no gradient, and opens only if others change what enters it.

    Raises:
        UsageError: a model without such adapters.
        DataError: clouds that the model cannot take.
    """
    with _watched(model) as gates:
        if not gates:
            raise UsageError(
                f"open_shares was given a model with {told(model.backbone)} grafted into it; it takes one that dapt grafted into."
            )
        model.features(points)
    return {block: gate.share for block, gate in gates.items()}


@dataclasses.dataclass
class _Gate:
    """For how many tokens an adapter did anything, of all that it was called for."""

    opened: int = 0
    tokens: int = 0

    def look(self, _module: nn.Module, _inputs: object, scale: torch.Tensor) -> None:
        self.opened += int((scale > 0).sum())
        self.tokens += scale.numel()

    @property
    def share(self) -> float:
        return self.opened / max(self.tokens, 1)


@contextlib.contextmanager
def _watched(model: Headed) -> Iterator[dict[str, _Gate]]:
    """The gate of each block's adapter, by block, which counts what happens inside."""
    adapters = {name.rpartition(".dapt.")[0]: part for name, part in model.backbone.named_modules() if isinstance(part, DynamicAdapter)}
    gates = {block: _Gate() for block in adapters}
    hooks = [adapter.scale.register_forward_hook(gates[block].look) for block, adapter in adapters.items()]
    try:
        yield gates
    finally:
        for hook in hooks:
            hook.remove()


class Once(Graft):
    """Positions that enter once, before the first block, as the released code has it, where the backbone learnt them before each."""

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Into all blocks; at share 0 positions enter before each."""
        x, context, *rest = inputs
        assert context.position is not None
        return x + self.share * context.position, context._replace(position=(1 - self.share) * context.position), *rest


_ONCE = "Positions are added once, before the first block, where the backbone was pre-trained with them before each."
_SCALES = {
    "norm1": ("", 1),
    "norm2": ("", 2),
    "dapt.affine": ("", 3),
    "attn.qkv": (".attn", 1),
    "attn.proj": (".attn", 2),
    "mlp.fc1": (".mlp", 1),
    "mlp.fc2": (".mlp", 2),
}
"""Where in a block scale and shift stand here, and under what module and number there."""
_ADAPTER = {"norm": "adapter_layer_norm_before", "scale": "scale", "down": "down_proj", "up": "up_proj"}


@dataclasses.dataclass(frozen=True)
class DAPT(Grafting):
    """Dynamic adapters, prompts made of their work, and SSF's scale and shift (Zhou et al., CVPR 2024, section 3).

    Each block's prompt stays to the end. As published positions are added once and not before each block, so that the tuning begins from another
    function than was pre-trained. In a pyramid prompts are their level's. It begins changed in either reading: scales and shifts are drawn around 1
    and 0, and prompts take their part of every softmax. The last prompt of a level stands behind all its blocks, and learns only where a head reads
    it. Adapters that no token opens do not learn (``open_shares``): the end of a training, and its page, say how many there are.
    """

    name: ClassVar[str] = "dapt"
    title: ClassVar[str] = "DAPT"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(1.1, 85.08)
    begins: ClassVar[Literal["unchanged", "changed"]] = "changed"
    lasting: ClassVar[str] = "its prompts are made of each cloud anew, and its adapters bend"
    looks_back: ClassVar[bool] = True

    rank: int = option(64, least=1, most=1 << 13, means="width of the bottleneck")
    dropout: float = option(0.2, least=0, below=1, means="the share of the bottleneck's values that are dropped in training")
    readout: Literal["all", "prompts", "tokens"] = option(
        "all", means="a head sees what it would, and the mean of prompts; the class token and that mean; or what it would"
    )

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """Those of the released configurations; each data set has its own dropout and its own readout."""
        file, differs = "DAPT cfgs/finetune_{}_dapt.yaml", (WHOLE, _ONCE)
        dead = "The head sees no prompt there, so that the last one and its scale and shift never get a gradient."
        return {
            "scan-hardest": Published({"rank": 64, "dropout": 0.2, "readout": "all"}, file.format("scan_hardest"), differs),
            "scan-objbg": Published({"rank": 64, "dropout": 0.5, "readout": "all"}, file.format("scan_objbg"), differs),
            "scan-objonly": Published({"rank": 64, "dropout": 0.0, "readout": "prompts"}, file.format("scan_objonly"), differs),
            "modelnet40": Published({"rank": 72, "dropout": 0.0, "readout": "tokens"}, file.format("modelnet"), (*differs, dead)),
        }

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """The rank, and the readout where it is all; the other two are of one size."""
        down = shapes.get("blocks.blocks.0.Adapter_MLP.down_proj.weight", ())
        if len(down) != 2:
            return None
        found: dict[str, object] = {"rank": down[0]}
        return found | ({"readout": "all"} if cls.head_units(shapes, down[1]) == 3 else {})

    def released(self, name: str) -> tuple[str, ...]:
        """Scale and shift are called tfts there, and numbered module by module."""
        if found := re.fullmatch(r"(encoder|norm)\.dapt\.(gamma|beta)", name):
            return (f"tfts_{found[2]}_{1 if found[1] == 'encoder' else 2}",)
        if found := re.fullmatch(r"(blocks\.blocks\.\d+)\.dapt\.adapter\.(norm|scale|down|up)\.(weight|bias)", name):
            return (f"{found[1]}.Adapter_MLP.{_ADAPTER[found[2]]}.{found[3]}",)
        if found := re.fullmatch(rf"(blocks\.blocks\.\d+)\.({'|'.join(map(re.escape, _SCALES))})(?:\.dapt)?\.(gamma|beta)", name):
            module, number = _SCALES[found[2]]
            return (f"{found[1]}{module}.tfts_{found[3]}_{number}",)
        return ()

    @property
    def unlike_released(self) -> str:
        """As published positions are added once."""
        if self.reading == "as_published":
            return ""
        return "released files of dapt were trained with positions added once, and here they are added before each block: take reading=as_published"

    def look_back(self, model: Headed, look: Callable[[], object]) -> Found:
        """Which gates opened for no token of any cloud: their adapters did not learn."""
        with _watched(model) as gates:
            look()
        dead = [block for block, gate in gates.items() if not gate.opened]
        opened = len(gates) - len(dead)
        words = (
            f"of DAPT's {counted(len(gates), 'gate')} {opened} ({100 * opened / len(gates):.0f} %) were open for at least one training cloud at the "
            "end"
        )
        words += f", and closed for all: {first_of(dead)}" if dead else ""
        return Found(words, {f"open {block}": gate.share for block, gate in gates.items()})

    def graft(self, model: Headed) -> None:
        """Adapters, prompts, scale and shift."""
        backbone, anatomy = model.backbone, model.backbone.anatomy
        if self.readout == "prompts":
            self.refuse_parts(model)
        for stage in anatomy.stages:
            if self.reading == "as_published":
                once = self.put(model, stage.blocks, Once())
                backbone.get_submodule(stage.blocks).register_forward_pre_hook(once.enter)
            for number, site in enumerate(stage.sites):
                self.refuse_wide(self.rank, site.width, site.block)
                scale_block(lambda place, affine: self.put(model, place, affine), backbone, site)
                block = backbone.get_submodule(site.block)
                assert isinstance(block, Block)
                mine = self.put(model, site.block, DynamicBlock(site.width, self.rank, self.dropout))
                block.drop_path.few = False  # the prompt is made of every cloud's tokens
                backbone.get_submodule(site.norm2).register_forward_hook(mine.enter)
                backbone.get_submodule(site.mlp).register_forward_hook(mine.adapt)
                block.register_forward_hook(mine.lengthen)
                if number:
                    seen = self.put(model, site.attend, AttentionShare(number))
                    backbone.get_submodule(site.attend).register_forward_pre_hook(seen.before)
            self._scale(model, stage.tokens, stage.width, "after")
        last = anatomy.norms[-1]
        self._scale(model, last, anatomy.stages[-1].width, "after_norm")
        if self.readout != "tokens":
            shown = ReadoutShare()
            backbone.get_submodule(last).get_submodule(self.slot).add_module("shown", shown)
            backbone.get_submodule(anatomy.stages[-1].blocks).register_forward_pre_hook(shown.look)
            backbone.get_submodule(last).register_forward_hook(shown.after)
            lead = f"lead+{EXTRA}" if backbone.leads else EXTRA
            backbone.readout = with_extra(backbone.readout) if self.readout == "all" else lead

    def _scale(self, model: Headed, place: str, width: int, way: str) -> None:
        affine = self.put(model, place, Affine(width))
        model.backbone.get_submodule(place).register_forward_hook(getattr(affine, way))
