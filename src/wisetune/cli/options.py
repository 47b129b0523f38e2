"""``wisetune options``: what can be written behind the colon of a spec, or in --fit, --head-fit, --corruption and --options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wisetune.catalog import Catalog
    from wisetune.nets.backbone import BackboneSpec
    from wisetune.spec import Spec


def options(name: str | None = None) -> int:
    """The options of one thing with their defaults and bounds; without a name, all things that have any.

    Parameters
    ----------
    name
        fit (of --fit and --head-fit), corruption, pretrain (of --options), a story, a tuning, a task, a measure, a penalty, a backbone, a head ...; or
        the word for several: backbone lists the backbones with their presets, head the heads, and so story, tuning, task and measure.
    """
    from wisetune.errors import UsageError, did_you_mean
    from wisetune.nets.create import named, preset_called

    kinds = _kinds()
    if name is None:
        for noun, names in kinds.items():
            print(f"{noun:9} {', '.join(names)}")
        print("wisetune options NAME lists the options of one; wisetune options backbone lists the backbones' presets.")
        return 0
    nouns = [noun for noun, names in kinds.items() if name in names]
    for place, noun in enumerate(nouns):
        if len(nouns) > 1:
            print("\n" * bool(place) + f"The {noun} {name}")
        _print(noun, name)
    if nouns:
        return 0
    if name in kinds:
        _print_kind(name, kinds[name])
    elif (noun := _outside(name)) is not None:
        _print(noun, name)
    elif (preset := preset_called(name)) is not None:
        raise UsageError(
            f"'{name}' is a preset of {preset.backbone.name}: wisetune show {name} says what it is, and wisetune options "
            f"{preset.backbone.name} what can be changed in it."
        )
    else:
        every = [*kinds, *(one for names in kinds.values() for one in names)]
        raise UsageError(
            f"nothing with options is called '{name}'.{did_you_mean(name, [*every, *named()])} wisetune options lists everything that has some."
        )
    return 0


def _catalogs() -> dict[str, Catalog[Any]]:
    """The catalogs whose entries have options, by what those are."""
    from wisetune.data.tasks import TASKS
    from wisetune.keep.penalties import PENALTIES
    from wisetune.measure.measures import MEASURES
    from wisetune.nets.create import BACKBONES
    from wisetune.stories.stories import STORIES
    from wisetune.tune.tunings import TUNINGS

    return {catalog.noun: catalog for catalog in (STORIES, TUNINGS, TASKS, MEASURES, PENALTIES, BACKBONES)}


def _kinds() -> dict[str, list[str]]:
    """Everything that has options, by what it is."""
    return {"training": ["fit", "pretrain"], **{noun: catalog.names() for noun, catalog in _catalogs().items()}, "head": list(_heads())}


def _outside(name: str) -> str | None:
    """What kind of thing ``my_lab.tuning:Mine`` is; None of what is spelled otherwise, or is none.

    Raises:
        UsageError: there is no such module.
    """
    import contextlib

    from wisetune.catalog import import_outside
    from wisetune.errors import UsageError

    spelled = [(noun, catalog) for noun, catalog in _catalogs().items() if ":" in name and catalog.divide(name) == (name, "")]
    if spelled:
        import_outside(name.partition(":")[0], f"'{name}'")
    for noun, catalog in spelled:
        with contextlib.suppress(UsageError):
            catalog.entry(name)
            return noun
    return None


def known_as(text: str) -> tuple[str, str] | None:
    """What kind of thing a word or a spec names (``a tuning``), and the name; None where it is none of these, or a backbone."""
    found = ((noun, catalog.divide(text)[0], catalog) for noun, catalog in _catalogs().items() if noun != "backbone")
    return next(((noun, name) for noun, name, catalog in found if name in catalog.names()), None)


def _heads() -> dict[str, type[Spec]]:
    """Heads of classes, and of parts."""
    from wisetune.nets.create import PARTS_HEADS
    from wisetune.nets.heads import HEADS

    return {**HEADS, **PARTS_HEADS}


def _spec(noun: str, name: str) -> type[Spec]:
    from wisetune.fit.fit import Fit
    from wisetune.fit.pretrain import Pretrain

    if noun == "training":
        return Fit if name == "fit" else Pretrain
    return _heads()[name] if noun == "head" else _catalogs()[noun].entry(name)


def _print_published(name: str) -> None:
    from wisetune.spelling import spell
    from wisetune.tune.tuning import in_common
    from wisetune.tune.tunings import PRESET, TUNINGS

    presets = TUNINGS.entry(name).presets()
    if not presets:
        return
    print(f"\nPublished settings, as {name}:{PRESET}=NAME; with reading=as_published, as the released code does it:")
    every = in_common(presets)
    for preset, published in presets.items():
        options = ",".join(f"{option.replace('_', '-')}={spell(value)}" for option, value in published.options.items())
        print(f"  {preset}\n    {options or 'no options'}\n    {published.source}")
        for differs in published.differs:
            if differs not in every:
                print(f"    - {differs}")
    if every:
        print("Of all of them:", *every, sep="\n  - ")


def _print_kind(noun: str, names: list[str]) -> None:
    """Everything of one kind, a line each; of backbones their presets too."""
    import inspect

    from wisetune.spec import option_names

    wide = max(map(len, names))
    for name in names:
        spec = _spec(noun, name)
        about = inspect.getdoc(inspect.getmodule(spec) if noun == "backbone" else spec) or ""
        print(f"{name:{wide}}  {about.splitlines()[0]}")
        print(
            f"{'':{wide}}  "
            + (f"presets: {', '.join(spec.presets())}" if issubclass(spec, _backbones()) else f"options: {option_names(spec)}")
        )
    of = "its presets and options" if noun == "backbone" else "its options"
    print(
        f"wisetune options NAME says of one what {of} mean"
        + (", and wisetune show NAME-PRESET what a preset is." if noun == "backbone" else ".")
    )


def _backbones() -> type[BackboneSpec]:
    from wisetune.nets.backbone import BackboneSpec

    return BackboneSpec


def _print_presets(spec: type[BackboneSpec]) -> None:
    from wisetune.nets.backbone import build_empty
    from wisetune.nets.create import class_names
    from wisetune.spelling import spell

    print(f"\nPresets, as --backbone {spec.name}-NAME or wisetune.create('{spec.name}', preset='NAME'):")
    rows = []
    for name, preset in spec.presets().items():
        points, groups = build_empty(preset.backbone).points, spell(getattr(preset.backbone, "groups", ""))
        outputs = f", {len(class_names(preset.classes))} outputs" if preset.classes else ""
        rows.append((name, f"{points:,} points in {groups} patches", f"{preset.head}{outputs}", preset.source))
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  " + "  ".join(f"{text:{width}}" for text, width in zip(row, wide, strict=False)) + f"  {row[3]}")


def _print(noun: str, name: str) -> None:
    import inspect

    from wisetune.build.request import Request
    from wisetune.nets.create import pretrainable
    from wisetune.spec import options_of

    spec = _spec(noun, name)
    print(inspect.getdoc(spec) or "")
    rows = options_of(spec)
    example = ",".join(dict.fromkeys(f"{row.name}=VALUE" for row in (rows[0], rows[-1]))) if rows else ""
    print(f"\nOptions, as {example}:" if rows else "\nIt has no options.")
    wide = max((len(row.name) for row in rows), default=0)
    for row in rows:
        print(f"  {row.name:{wide}}  {row.default or '(empty)':16}  {row.takes}".rstrip())
        if row.means:
            print(f"  {'':{wide}}  {row.means}")
    if noun == "tuning":
        _print_published(name)
    if issubclass(spec, _backbones()) and spec.presets():
        _print_presets(spec)
    if name == "pretrain":
        own = [f"{family} mask={masking.mask:g},decoder-depth={masking.decoder_depth}" for family, masking in pretrainable().items()]
        print(f"\nWhere none is given the backbone decides: {'; '.join(own)}.")
    if name == "fit":
        usual = f"--fit {Request.fit}\nand --head-fit {Request.head_fit}"
        print(f"\nwisetune run begins with {usual}.\nWhat you give changes that alone: --fit epochs=3 keeps the rest.")
        print(
            "\n--fit official begins with the official training of the weights' setting, --fit preset=scanobjectnn with that of another of their "
            "family, as intended;\nwith reading=as_published as the released code has it. wisetune show point-mae-scanobjectnn says what that is. "
            "More options change it: --fit official,epochs=30."
        )
