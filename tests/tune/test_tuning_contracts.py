"""What every tuning promises: those of the catalog on every family of backbones, for classes and for parts; and those from outside that graft."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import cells
import pytest
import torch
import torch.nn.functional as F
from cells import CLOUDS, EVERY, LABELS, TUNINGS_HERE, Cell, answer, logits
from torch import nn

import pico
from my_tunings import Adapter, Inside, Scaled, ScaledProbe
from pico import bits
from wisetune import fold, load_delta, load_model, save_delta, save_model
from wisetune.build.kept import check_keeps, prepare
from wisetune.data.task import Split
from wisetune.errors import UsageError
from wisetune.keep.ewc import Ewc
from wisetune.keep.l2_sp import L2Sp
from wisetune.keep.lwf import Lwf
from wisetune.nets.grafts import parts
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.nets.segmenter import Segmenter
from wisetune.nets.transformer import set_drop_path, set_recompute
from wisetune.recipe import Start
from wisetune.stories.lp_ft import LpFt
from wisetune.tune.dapt import DAPT, open_shares
from wisetune.tune.full import Full
from wisetune.tune.tuning import Tuning
from wisetune.tune.tunings import TUNINGS

FEW = {("point-mae", "classes"), ("point-m2ae", "classes"), ("recon", "parts")}
"""Of each tuning that grafts the cells of the default run; of the others, and of other settings, the first."""


def _marks(cell: Cell) -> list[pytest.MarkDecorator]:
    place, grafts = (cell.family, cell.kind), cell.tuning in TUNINGS_HERE and type(cell.tuning).graft is not Tuning.graft
    return [] if place == ("point-mae", "classes") or (place in FEW and grafts) else [pytest.mark.slow]


BLOCKWISE = {"adapter", "adaptformer", "bitfit", "lora", "ssf"}
"""What they graft belongs to one block: a pyramid and a head of parts are to a copy of it what any backbone is."""


def _fewer(cell: Cell) -> list[pytest.MarkDecorator]:
    elsewhere = (cell.family, cell.kind) != ("point-mae", "classes")
    return [pytest.mark.slow] if elsewhere and (cell.tuning.name in BLOCKWISE or cell.kind == "parts") else _marks(cell)


every = pytest.mark.parametrize("cell", [pytest.param(cell, id=str(cell), marks=_marks(cell)) for cell in EVERY])
every_kind = pytest.mark.parametrize("cell", [pytest.param(cell, id=str(cell), marks=_fewer(cell)) for cell in EVERY])
"""As dear, and by default for fewer of them."""
DOUBLE = CLOUDS.double()


def test_every_tuning_of_the_catalog_is_here():
    assert {tuning.name for tuning in TUNINGS_HERE} == set(TUNINGS.names())


@every
def test_the_backbone_has_what_it_had_and_a_note_of_what_came(cell):
    before, after = cells.start(cell), cells.grafted(cell).backbone
    there, now = before.state_dict(), after.state_dict()
    assert bits({name: now[name] for name in there}) == bits(there)
    added = set(parts(after)) - set(parts(before))
    if added:
        (noted,) = after.grafts
        assert (noted.tuning, set(noted.names)) == (cell.tuning.in_full(), added)
        assert TUNINGS.parse_imported(noted.tuning) == cell.tuning
    else:
        assert after.grafts == ()


def closed(cell: Cell, model: Model) -> tuple[str, ...]:
    """What of DAPT is behind all blocks that could see it: the last prompts of levels that no head reads."""
    if not isinstance(cell.tuning, DAPT):
        return ()
    stages = model.backbone.anatomy.stages
    unread = stages if isinstance(model, Segmenter) or cell.tuning.readout == "tokens" else stages[:-1]
    return tuple(f"backbone.{stage.sites[-1].block}.dapt.affine." for stage in unread)


def forgotten(cell: Cell, name: str) -> bool:
    """Whether only rounding reaches it: what shifts all that a norm over the batch or a softmax centres, and attention to oneself alone."""
    alone = cell.family == "point-m2ae" and ".encoder_blocks.0." in name and ".qkv.lora." in name
    return name.endswith((".bias", ".beta")) or alone


@every
def test_what_is_declared_trains_and_nothing_else_moves(cell):
    model = cells.tuned(cell).double()
    before = bits(model.state_dict())
    assert all(value.requires_grad for value in model.parameters()), "to ask what trains changes nothing"
    chosen = cell.tuning.freeze(model)
    free = {name for name, value in model.named_parameters() if value.requires_grad}
    assert free == set(chosen) == {name for name, _ in model.named_parameters() if cell.tuning.trains(name, model.backbone)}
    for module in cell.tuning.in_training(model):
        module.train()
    said = answer(model, DOUBLE).flatten(0, -2)
    F.cross_entropy(said, torch.arange(len(said)) % 3).backward()
    strength = {name: 0.0 if value.grad is None else float(value.grad.abs().max()) for name, value in chosen.items()}
    dead = {name for name, value in strength.items() if value <= 1e-12 * max(strength.values())}
    unseen = {name for name in chosen if name.startswith(closed(cell, model) or "nothing")}
    assert unseen <= dead
    assert all(forgotten(cell, name) for name in dead - unseen), sorted(dead - unseen)
    assert all(value.grad is None for name, value in model.named_parameters() if name not in chosen)
    torch.optim.SGD(chosen.values(), lr=0.1).step()
    backbone, now = cells.start(cell), bits(model.state_dict())
    moved = {name for name in before if now[name] != before[name]}
    free = {name.removeprefix("backbone.") for name in chosen}
    statistics = {name for name, _ in backbone.named_buffers()}
    own = moved & set(backbone.state_dict())
    if model in cell.tuning.in_training(model):
        assert own - free == statistics, "all of it trains, or as published is in training mode"
    else:
        assert own <= free, "what is frozen rests"


def stepped(cell: Cell, again: bool) -> tuple[list[torch.Tensor | None], dict[str, bytes]]:
    """The gradients of a training step, with dropout and drop path, and the buffers after it."""
    model = cells.tuned(cell).double()
    chosen = cell.tuning.freeze(model)
    for module in cell.tuning.in_training(model):
        module.train()
    set_recompute(model, again)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        said = answer(model, DOUBLE).flatten(0, -2)
        found = torch.autograd.grad(F.cross_entropy(said, torch.arange(len(said)) % 3), list(chosen.values()), allow_unused=True)
    copy.deepcopy(model)  # nothing is left behind that a gradient flows through
    return list(found), bits(dict(model.named_buffers()))


@every
def test_blocks_that_are_computed_again_give_the_same_gradients(cell):
    (once, kept), (twice, left) = stepped(cell, again=False), stepped(cell, again=True)
    assert left == kept
    for mine, wanted in zip(twice, once, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-12)


@every
def test_it_begins_as_it_says(cell):
    before = cells.untuned(cell).double()
    first, was = (cells.seen(model, before, DOUBLE) for model in (cells.grafted(cell).double(), before))
    assert torch.allclose(first, was, rtol=0, atol=1e-12) == (cell.tuning.begins == "unchanged")
    assert cell.tuning.begins == "unchanged" or "begins changed" in " ".join((type(cell.tuning).__doc__ or "").split()), "and why"


def shared(cell: Cell, share: float) -> Model:
    """The tuned model with this share of what was grafted, and the backbone's own weights as they were."""
    model = cells.tuned(cell).double()
    state = {
        name: torch.full_like(value, share) if name.endswith(".share") else value for name, value in model.backbone.state_dict().items()
    }
    model.backbone.load_state_dict({**state, **cells.start(cell).state_dict()})
    return model


@every_kind
def test_of_a_graft_a_share_counts(cell):
    before = cells.untuned(cell).double()
    was = cells.seen(before, before, DOUBLE)
    torch.testing.assert_close(cells.seen(shared(cell, 0.0), before, DOUBLE), was, rtol=0, atol=1e-12)
    by_hand = shared(cell, 1.0)
    for name, value in by_hand.backbone.named_buffers():
        if name.endswith(".share"):
            value.zero_()
    torch.testing.assert_close(cells.seen(by_hand, before, DOUBLE), was, rtol=0, atol=1e-12)
    tuned = cells.tuned(cell).double()
    tuned.backbone.load_state_dict({**tuned.backbone.state_dict(), **cells.start(cell).state_dict()})
    last = cells.seen(tuned, before, DOUBLE)
    assert torch.equal(cells.seen(shared(cell, 1.0), before, DOUBLE), last)
    if tuned.backbone.grafts:
        far = [float((cells.seen(shared(cell, share), before, DOUBLE) - was).norm()) for share in (0.01, 0.5)] + [
            float((last - was).norm())
        ]
        assert 0 < far[0] < 0.1 * far[2]
        assert far[0] < far[1] < far[2]


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("tuning", ["vpt:prompts=2", "prefix:length=3", "idpt", "ppt:rank=4", "dapt:rank=4"])
def test_a_share_counts_whoever_sets_it(tuning):
    """For one call too, and for whoever transforms calls, who cannot ask for a value."""
    cell = Cell(TUNINGS.parse(tuning), "point-mae", "classes")
    half, whole = shared(cell, 0.5), shared(cell, 1.0)
    groups = whole.group(DOUBLE)
    shares = {name: value for name, value in whole.named_buffers() if name.endswith(".share")}

    def features(shares: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(Encoding(whole), {f"model.{name}": value for name, value in shares.items()}, (groups,))

    with torch.no_grad():
        wanted = torch.stack([half.encode(groups), whole.encode(groups)])
        both = torch.stack([features({name: torch.full_like(value, at) for name, value in shares.items()}) for at in (0.5, 1.0)])
        stacked = {name: torch.stack([torch.full_like(value, 0.5), value]) for name, value in shares.items()}
        at_once = torch.func.vmap(features)(stacked)
    torch.testing.assert_close(both, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(at_once, wanted, rtol=0, atol=1e-12)
    assert not torch.equal(wanted[0], wanted[1])
    if cell.tuning.name == "dapt":  # its gradient computes adapters again, after a call with other values is over
        return
    moving = {name: value.clone().requires_grad_() for name, value in shares.items()}
    assert any(slope.any() for slope in torch.autograd.grad(features(moving).square().sum(), list(moving.values()))), "it has a gradient"


class Encoding(nn.Module):
    """Features of patches, as a module with a model in it: a model's own state dict has other names."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, groups: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.model.encode(groups)


PENALTIES = [Ewc(2.0), L2Sp(2.0), Lwf(2.0)]
TASK = Split(CLOUDS.numpy(), LABELS.numpy(), ("a", "b", "c"))


def _first(cell: Cell) -> list[pytest.MarkDecorator]:
    """A penalty looks at values alone; what the last level makes of them all is seen once in a pyramid."""
    here = cell.tuning in TUNINGS_HERE and (cell.family == "point-mae" or cell.tuning.name == "dapt")
    return _fewer(cell) if here else [pytest.mark.slow]


@pytest.mark.parametrize("cell", [pytest.param(cell, id=str(cell), marks=_first(cell)) for cell in EVERY if cell.kind == "classes"])
def test_every_penalty_goes_with_it(cell):
    """From a trained head, as LP-FT has it: nothing at the start, then more, and its gradient is that of what is declared."""
    backbone = cells.KINDS[cell.family]["classes"].spec
    start = Start(backbone, "random:0")
    (*_, (_, recipe)) = LpFt().recipes(pico.setting(start=start, tuning=cell.tuning)).items()
    for keep in PENALTIES:
        node = dataclasses.replace(recipe, keep=keep)
        check_keeps(node)
        model = cells.grafted(cell).double()
        parent = copy.deepcopy(model) if recipe.start.grafted else cells.untuned(cell).double()
        parent.head.load_state_dict(model.head.state_dict())
        chosen = cell.tuning.freeze(model)
        term, facts = prepare(node, parent, model, chosen, TASK)
        assert all(value.grad is None for value in model.parameters())
        if keep.of_weights:
            assert facts["held_values"] == sum(value.numel() for value in chosen.values())
        if keep.name == "ewc":
            assert 0 <= facts["fisher_zero"] < facts["held_values"]
        groups = model.group(DOUBLE)

        def held(model=model, groups=groups, term=term):
            return term(model, groups, model.head(model.encode(groups)))

        first = held()
        assert float(first.detach()) == pytest.approx(0.0, abs=1e-12)
        loss = F.cross_entropy(answer(model, DOUBLE), LABELS) + first
        assert torch.isfinite(loss)
        loss.backward()
        torch.optim.SGD(chosen.values(), lr=0.1).step()
        model.zero_grad()
        away = held()
        assert 0 < float(away.detach()) < float("inf")
        away.backward()
        assert any(bool(value.grad.any()) for value in chosen.values() if value.grad is not None)
        assert all(value.grad is None for name, value in model.named_parameters() if name not in chosen)
        assert all(value.grad is None for value in parent.parameters())


@every
def test_it_folds_or_says_why_not(cell):
    model = cells.tuned(cell)
    if cell.tuning.lasting and getattr(cell.tuning, "hidden", None) is None:
        with pytest.raises(UsageError, match=rf"cannot be folded: {cell.tuning.lasting}\. Keep its grafts"):
            fold(model)
        return
    was = bits(model.state_dict())
    folded, exact = fold(model), fold(model.double())
    assert bits(model.float().state_dict()) == was
    torch.testing.assert_close(logits(folded), logits(model), rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(exact, DOUBLE), logits(model.double(), DOUBLE), rtol=1e-12, atol=1e-12)
    assert (type(folded), folded.head_spec, folded.classes, folded.training) == (type(model), model.head_spec, model.classes, False)
    if cell.tuning.name == "prefix":
        assert [graft.tuning for graft in folded.backbone.grafts] == [TUNINGS.parse("prefix:length=3").in_full()]
    else:
        assert (folded.backbone.grafts, set(folded.state_dict())) == ((), set(cells.untuned(cell).state_dict()))


@every_kind
def test_copies_of_it_and_files(cell, tmp_path):
    model, start = cells.tuned(cell), cells.start(cell)
    wanted = logits(model)
    save_delta(tmp_path / "d", model, start, {"from": "a test"})
    save_model(tmp_path / "m", model)
    made = {"pickle": pickle.loads(pickle.dumps(model)), "delta": load_delta(tmp_path / "d", start), "file": load_model(tmp_path / "m")}
    for how, copied in {"deepcopy": copy.deepcopy(model), **made}.items():
        assert torch.equal(logits(copied), wanted), how
        assert bits(copied.state_dict()) == bits(model.state_dict()), how
        assert (copied.backbone.grafts, copied.backbone.readout) == (model.backbone.grafts, model.backbone.readout), how
        with torch.no_grad():
            for value in copied.parameters():
                value.fill_(0.0)
        assert not torch.equal(logits(copied), wanted), how
    assert torch.equal(logits(model), wanted), "each has grafts of its own"
    if cell.tuning.trains("backbone.norm.weight", model.backbone):
        return
    assert (tmp_path / "d").stat().st_size < (tmp_path / "m").stat().st_size


@every_kind
def test_any_batch_and_precision_and_no_values_at_all(cell):
    model = cells.tuned(cell)
    together = logits(model)
    alone = logits(model, CLOUDS[:1])
    torch.testing.assert_close(alone, together[:1], rtol=1e-5, atol=1e-5)
    double = logits(copy.deepcopy(model).double(), DOUBLE)
    torch.testing.assert_close(double.float(), together, rtol=1e-4, atol=1e-5)
    assert answer(model.to("meta"), CLOUDS.to("meta"), LABELS.to("meta")).shape == together.shape


def test_two_in_turn():
    first, second = (Cell(TUNINGS.parse(text), "point-mae", "classes") for text in ("lora:rank=4", "adapter:rank=4"))
    model = cells.tuned(first)
    one = cells.seen(model, model)
    second.tuning.graft_into(model)
    assert torch.equal(cells.seen(model, model), one)
    assert {name.split(".")[-3] for name in second.tuning.freeze(model) if ".blocks." in name} == {"adapter"}
    assert [graft.tuning.partition(":")[0] for graft in model.backbone.grafts] == ["lora", "adapter"]
    with pytest.raises(UsageError, match=r"this model has lora:.*, adapter:.* grafted into it; it is folded where one tuning grafted"):
        fold(model)


@pytest.mark.parametrize(
    ("first", "second"), [("vpt", "dapt:rank=4"), ("prefix:hidden=4", "vpt"), ("dapt:rank=4", "idpt"), ("vpt", "prefix")]
)
def test_two_that_bring_tokens_or_keys_are_refused(first, second):
    """Each would take the last ones for its own, and throw away or weigh the other's."""
    model = cells.untuned(Cell(Full(), "point-mae", "classes"))
    TUNINGS.parse(first).graft_into(model)
    name = second.partition(":")[0]
    with pytest.raises(
        UsageError, match=rf"'{name}.*' brings tokens or keys of its own at .*attend, as '{first.partition(':')[0]}:.*' does"
    ):
        TUNINGS.parse(second).graft_into(model)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("lora:rank=17", "classes", r"'lora:rank=17' has rank=17, and .*qkv is 16 wide"),
        ("adapter:rank=17", "classes", r"has rank=17, and blocks.blocks.0 is 16 wide: .* Give a rank of at most 16"),
        ("adaptformer", "parts", "has rank=64, and .* is 16 wide"),
        ("dapt", "classes", "has rank=64, and .* is 16 wide"),
        ("idpt:layer=2", "classes", "'idpt:layer=2' enters block 2, and point-mae has blocks 0 to 1. Give one of these"),
        ("idpt:readout=prompt", "parts", "lets a head see prompts alone, and this model answers for every point"),
        ("dapt:rank=4,readout=prompts", "parts", "lets a head see prompts alone, and this model answers for every point"),
    ],
)
def test_what_cannot_be_is_refused_in_words(text, kind, says):
    with pytest.raises(UsageError, match=says.replace("adaptformer", "rank")):
        TUNINGS.parse(text).graft_into(cells.untuned(Cell(Full(), "point-mae", kind)))


def test_a_token_that_would_become_a_minimum_is_not_folded():
    model = cells.tuned(Cell(TUNINGS.parse("ssf"), "point-mae", "classes"))
    with torch.no_grad():
        model.backbone.encoder.ssf.gamma[:2] = -0.5
    with pytest.raises(UsageError, match=r"'ssf' cannot be folded: a token is a maximum .* 2 of its 16 scales at encoder are negative"):
        fold(model)


def test_what_no_weight_says_is_not_folded():
    model = cells.untuned(Cell(Full(), "point-mae", "classes"))
    model.backbone.norm.extra = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"this model has 'norm.extra' grafted into it"):
        fold(model)
    with pytest.raises(UsageError, match=r"'my_tunings:Scaled' cannot be folded: it does not say what change of weights it is"):
        fold(outside(Scaled()))


def test_dapt_says_for_how_many_tokens_its_adapters_are_open():
    model = cells.tuned(Cell(DAPT(rank=4), "point-mae", "classes"))
    first, last = (model.backbone.get_submodule(f"{site.block}.dapt.adapter.scale") for site in model.backbone.anatomy.sites)
    with torch.no_grad():
        first.bias.fill_(-100.0)
        last.bias.fill_(100.0)
    assert open_shares(model, CLOUDS) == {"blocks.blocks.0": 0.0, "blocks.blocks.1": 1.0}
    assert not first._forward_hooks
    answer(model).sum().backward()
    closed, opened = (model.backbone.get_submodule(f"blocks.blocks.{block}.dapt.adapter.up").weight.grad for block in (0, 1))
    assert (closed.any(), opened.any()) == (False, True)
    with pytest.raises(UsageError, match="was given a model with nothing grafted into it; it takes one that dapt grafted into"):
        open_shares(cells.untuned(Cell(Full(), "point-mae", "classes")), CLOUDS)


@pytest.mark.parametrize("tuning", [TUNINGS.parse("dapt:rank=4"), TUNINGS.parse("idpt")], ids=str)
def test_the_published_pyramid_of_pre_training_shows_extra_tokens_too(tuning):
    """There attention is over padded rows, behind which they stand."""
    spec = cells.KINDS["point-m2ae"]["classes"].spec
    published = pico.dataclasses.replace(spec, norm="levels", reading="as_published")
    model = Model(cells.fresh_backbone(published, 0), nn.Identity()).eval()
    width = model.features(CLOUDS).shape[1]
    tuning.graft_into(model)
    assert model.features(CLOUDS).shape == (len(CLOUDS), width + 16) == (len(CLOUDS), model.backbone.feature_width)


# Tunings from outside the package.

OUTSIDE = [Adapter(), Inside(), Scaled(), ScaledProbe()]
PICO = torch.from_numpy(pico.data(train=1, val=0, test=2).test.points)


def outside(tuning: Tuning, spec=pico.SPEC) -> Model:
    torch.manual_seed(0)
    model = Model(pico.backbone(spec), LinearHead().build(32, 3), LinearHead(), ("a", "b", "c")).eval()
    tuning.graft_into(model)
    return model.eval()


def step(model, tuning):
    """One step of training, by a rate at which every value moves; with drop path."""
    chosen = tuning.freeze(model)
    set_drop_path(model, 0.5)
    for module in tuning.in_training(model):
        module.train()
    F.cross_entropy(model(PICO), torch.arange(len(PICO)) % 3).backward()
    torch.optim.SGD(chosen.values(), lr=0.1).step()
    model.eval()
    return chosen


@pytest.mark.parametrize("tuning", OUTSIDE, ids=str)
@pytest.mark.parametrize("spec", [pico.SPEC, pico.TOKEN_SPEC], ids=["plain", "token"])
def test_one_from_outside_is_copied_trained_saved_and_loaded(tuning, spec, tmp_path):
    model = outside(tuning, spec)
    before, first = bits(dict(model.named_parameters())), logits(model, PICO)
    twin = copy.deepcopy(model)
    chosen = step(model, tuning)
    assert not torch.equal(logits(model, PICO), first)
    assert torch.equal(logits(twin, PICO), first), "a copy has grafts of its own"
    now = bits(dict(model.named_parameters()))
    assert {name for name in now if now[name] != before[name]} <= set(chosen)
    save_model(tmp_path / "m", model)
    save_delta(tmp_path / "d", model, pico.backbone(spec))
    for loaded in (load_model(tmp_path / "m"), load_delta(tmp_path / "d", pico.backbone(spec))):
        assert bits(loaded.state_dict()) == bits(model.state_dict())
        assert torch.equal(logits(loaded, PICO), logits(model, PICO))
        assert loaded.backbone.grafts == model.backbone.grafts


@pytest.mark.parametrize("spec", [pico.SPEC, pico.TOKEN_SPEC], ids=["plain", "token"])
def test_branches_that_drop_path_leaves_out_see_the_kept_rows_alone(spec):
    model, seen = outside(Inside(), spec), []
    last = model.backbone.get_submodule(model.backbone.anatomy.sites[-1].mlp).adapter.down
    last.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    set_drop_path(model, 0.5)
    logits(model.train(), PICO)
    logits(model.eval(), PICO)
    assert seen[0] < seen[1] == len(PICO)
