"""``wisetune pretrain``: a backbone from your own unlabelled shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wisetune.cli.kinds import Options, Tasks, Word
from wisetune.cli.machine import ANYWHERE, GOES_ON, NOT_BEGUN, Machine, command_line, folder_for, if_stopped, set_threads


def pretrain(
    backbone: str = "point-mae",
    *,
    size: Word = "mini",
    on: Tasks = (),
    on_y: Tasks = (),
    out: Path,
    options: Options = "",
    half: bool = False,
    machine: Machine = ANYWHERE,
) -> int:
    """Pre-train a backbone by masked reconstruction, with a contrast between views unless options say contrast=0. Labels are not used.

    Only the train part of each task is used, without shapes that any of the tasks holds out: those with the same points or vertices, also moved,
    scaled or in another order, and those with the same id in .npz files. So nothing that a probe on the held-out parts measures was seen. A shape
    of several tasks is used once. Killed at any moment, the same command goes on where it was.

    Parameters
    ----------
    backbone
        The backbone to pre-train, point-mae or point-m2ae, with options if wanted: point-mae:width=192,heads=6.
    size
        A preset of it: mini, or a published size; not used when the backbone is given with options.
    on
        Shapes that stand upright along z: folder:DIR (with class folders or without), npz:FILE; may be given several times. val=0,test=0 behind
        it holds out none.
    on_y
        Shapes that stand upright along y (they stay so; views are turned about y); may be given several times. One of either is needed.
    out
        Folder for backbone.safetensors, its card and log, and the state from which a killed run goes on.
    options
        Options of pre-training, for example epochs=100,batch=64,seed=1; wisetune options pretrain lists them all.
    half
        Store in half precision.
    machine
        Where to work.
    """
    from wisetune.build.bar import Bar
    from wisetune.build.pretraining import run_pretraining
    from wisetune.cli.session import Session
    from wisetune.errors import UsageError, did_you_mean, naming
    from wisetune.fit.pretrain import Pretrain
    from wisetune.nets.create import BACKBONES, masking_of, parse_backbone
    from wisetune.runtime import device

    if not on + on_y:
        raise UsageError("there are no shapes to learn from. Give them with --on TASK, or with --on-y TASK where y points up.")
    set_threads(machine.threads)
    folder_for("a backbone", out)
    family, _ = BACKBONES.divide(backbone)
    if family in BACKBONES.names():
        masking_of(BACKBONES.entry(family))  # before a size of it that there is not is missed
        if backbone == family and size not in (sizes := BACKBONES.entry(family).presets()):
            raise UsageError(f"--size: {family} has no size '{size}'.{did_you_mean(size, sizes)} There are: {', '.join(sizes)}.")
    spec = parse_backbone(backbone if ":" in backbone else f"{backbone}-{size}")
    with naming("--options"):
        chosen = Pretrain.from_options(options)
    where = device(machine.device)
    session = Session(command_line())

    def begun(state: str) -> None:
        nonlocal session
        session = replace(session, trainings={state: chosen.epochs})
        session.write(out)
        leaves.said = GOES_ON

    with if_stopped(NOT_BEGUN) as leaves, Bar(machine.quiet) as bar:
        file, log = run_pretraining(
            spec,
            chosen,
            [*((text, "z") for text in on), *((text, "y") for text in on_y)],
            out,
            bar,
            where,
            half=half,
            command=session.command,
            begun=begun,
        )
    replace(session, finished=True).write(out)
    print(f"Backbone: {file} (loss {log[0]['loss']:.4f} at first, {log[-1]['loss']:.4f} at the end)")
    print(f"Use it:   wisetune run wise-ft-lp --from {file} --on folder:DIR --out OUT")
    return 0
