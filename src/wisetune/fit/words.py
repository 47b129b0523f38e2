"""What a fit does, in words."""

from __future__ import annotations

from wisetune.fit.fit import Fit


def in_words(fit: Fit) -> list[str]:
    """One line a matter: how long, how fast, what is held back, what a step sees, which weights are kept."""
    plan = fit.schedule
    cosine = {
        "smooth": ", with every batch",
        "timm": ", once an epoch and over all epochs as timm has it",
        "timm-late": ", once an epoch and over all epochs as timm has it, an epoch late",
    }[plan.cosine]
    end = f" at epoch {plan.cosine_epochs}" if plan.cosine_epochs is not None else ""
    start = f"{plan.warmup:g} epoch{'' if plan.warmup == 1 else 's'} of warm-up from {plan.warmup_lr:g}, " if plan.warmup else ""
    lines = [
        f"{fit.epochs} epochs of batches of {fit.batch}, AdamW with weight decay {fit.weight_decay:g}",
        f"learning rate {fit.lr:g}: {start}a cosine to {plan.lr_final:g}{end}{cosine}",
    ]
    if fit.group:
        decay = "" if fit.group_decay is None else f" and a weight decay of {fit.group_decay:g} for all of them"
        lines.append(f"parameters with {' or '.join(map(repr, fit.group))} in their names: {fit.group_lr:g} times the rate{decay}")
    limit = f"norm {fit.clip:g}" if fit.clip_percentile is None else f"percentile {fit.clip_percentile:g} of the norms so far"
    lines.append(f"gradients cut at {limit}; drop path {'of the backbone' if fit.drop_path is None else f'{fit.drop_path:g}'}")
    if fit.smoothing:
        lines.append(f"labels smoothed by {fit.smoothing:g} over {'all' if fit.smoothing_over == 'all' else 'the other'} classes")
    if fit.pool is not None:
        shared = "one choice for a batch" if fit.pool_shared else "one choice a cloud"
        rule = "" if fit.pool_rule == "intended" else f" by the rule of {fit.pool_rule}"
        read = fit.points_read
        pool = f"{fit.pool} of a cloud{rule}" if fit.pool == read else f"{fit.pool} farthest{rule} of {read} of a cloud"
        lines.append(f"a step's points: at random from the {pool}, {shared}")
    lines.append(f"augmentation {fit.augment}")
    kept = {
        "last": "of the last epoch",
        "best": "best on validation data",
        "best-on-test": "best on the TEST split: its numbers are too good",
    }
    return [*lines, f"weights kept: {kept[fit.select]}"]
