"""The line on top: what to take, and nothing that was not tested."""

from __future__ import annotations

import dataclasses

import pytest
from studies import bare, placed, plain_page, record, study

from wisetune.report import summary
from wisetune.results import DataSet, Results, Row, Variant

_AT = "WiSE-FT-LP at α\u00a0=\u00a00.5"
Scores = tuple[float, ...]
"""Accuracy, robustness and, where it is there, accuracy under corruption, the same on both splits and in every seed."""


def results(*, n: int = 2000, seeds: int = 3, alpha: float = 0.5, val: dict[str, Scores] | None = None, **models: Scores) -> Results:
    """A study of a model at ``alpha`` (``ours``) and baselines, of which the same many scans are right in every seed; ``val``: on val others."""
    rows: list[Row] = []
    for name, scores in models.items():
        model = ("wise-ft-lp", alpha) if name == "ours" else (name.replace("_", "-"), None)
        for seed in range(seeds):
            for split, found in (("test", scores), ("val", (val or {}).get(name, scores))):
                for quantity, value in zip(("accuracy", "probe accuracy", "corrupted accuracy"), found, strict=False):
                    right = "1" * round(n * value) + "0" * (n - round(n * value))
                    detail = {"kind": "jitter", "level": 1} if quantity == "corrupted accuracy" else {}
                    measure = {"accuracy": "accuracy", "probe accuracy": "svm:on=[demo:objects]"}.get(quantity, "corruption")
                    rows.append(placed(*model, seed, record(quantity, value, n, split, measure, right=right, **detail)))
    return Results(bare(recommended=Variant("wise-ft-lp", alpha)), {}, rows, [], [], {}, {})


def concluded(**said: object) -> str:
    return summary(results(**said))["conclusion"]  # type: ignore[arg-type]


def test_a_gain_without_a_loss_is_taken() -> None:
    assert concluded(ours=(0.8, 0.7), ft=(0.8, 0.6)) == (
        f"Take {_AT} rather than full fine-tuning: a gain of robustness (+10.0 points) is shown, a loss of accuracy is not."
    )


def test_what_the_best_baseline_has_is_said_too() -> None:
    ours, ft = (0.8, 0.7), (0.8, 0.6)
    even = concluded(ours=ours, ft=ft, lp_ft=(0.799, 0.701))
    assert even.endswith(" Over LP-FT, the best other baseline, no gain is shown, and LP-FT costs less.")
    behind = concluded(ours=ours, ft=ft, lp_ft=(0.7, 0.701))
    assert behind.endswith(" Over LP-FT, the best other baseline, a gain of accuracy is shown too.")
    apart = concluded(ours=ours, ft=ft, lp_ft=(0.7, 0.8))
    assert apart.endswith(
        " Weigh LP-FT, the best other baseline, too: against LP-FT a gain of accuracy (+10.0 points) and a loss of robustness "
        "(−10.0 points) are shown."
    )


def test_without_a_gain_the_reference_is_kept() -> None:
    assert concluded(ours=(0.8, 0.601), ft=(0.801, 0.6)) == (
        f"Keep full fine-tuning: on these scans no gain of {_AT} over full fine-tuning is shown."
    )
    assert concluded(ours=(0.7, 0.601), ft=(0.8, 0.6)) == (
        f"Keep full fine-tuning: of {_AT} against full fine-tuning a loss of accuracy (−10.0 points) is shown, and no gain."
    )


def test_a_trade_is_called_one() -> None:
    assert concluded(ours=(0.7, 0.7), ft=(0.8, 0.6)) == (
        f"Take {_AT} only where its gain is worth its loss: against full fine-tuning a gain of robustness (+10.0 points) and a loss of accuracy "
        "(−10.0 points) are shown."
    )


def test_a_loss_under_corruption_counts() -> None:
    assert "and a loss of accuracy under corruption (−20.0 points) are shown" in concluded(ours=(0.8, 0.7, 0.4), ft=(0.8, 0.6, 0.6))
    assert "a loss of accuracy or of accuracy under corruption is not" in concluded(ours=(0.8, 0.7, 0.6), ft=(0.8, 0.6, 0.6))


def test_linear_probing_will_do_where_no_gain_over_it_is_shown() -> None:
    kept = f"Keep linear probing: on these scans no gain of {_AT} over linear probing is shown, and nothing costs less."
    assert concluded(ours=(0.801, 0.7), ft=(0.7, 0.6), lp=(0.8, 0.701)) == kept
    # It has lost accuracy against the reference, and the model has not: nothing shown between the two does not make it as good.
    assert concluded(n=200, ours=(0.785, 0.7), ft=(0.8, 0.6), lp=(0.77, 0.705)).startswith(f"Take {_AT} rather than full fine-tuning")


def test_a_baseline_that_is_as_good_on_both_splits_goes_first() -> None:
    ours, ft, lp = (0.8, 0.7), (0.8, 0.6), (0.801, 0.701)
    assert concluded(ours=ours, ft=ft, lp_ft=lp) == (
        f"Take LP-FT rather than {_AT}: accuracy and robustness of LP-FT are on average no lower on the test and the validation split, and LP-FT "
        "costs less. No difference in accuracy or robustness is shown between the two. "
        "Of LP-FT against full fine-tuning a gain of robustness (+10.1 points) is shown, a loss of accuracy is not."
    )
    lucky = concluded(ours=ours, ft=ft, lp_ft=lp, val={"lp_ft": (0.7, 0.7)})
    assert lucky.startswith(f"Take {_AT} rather than full fine-tuning")
    assert lucky.endswith(" Over LP-FT no gain is shown, and LP-FT costs less.")


def test_a_baseline_that_goes_first_is_said_to_gain_only_what_is_shown() -> None:
    ahead = concluded(ours=(0.8, 0.7), ft=(0.8, 0.6), lp_ft=(0.801, 0.8))
    assert f"and LP-FT costs less. A gain of robustness (+10.0 points) over {_AT} is shown. Of LP-FT against full fine-tuning" in ahead
    few = concluded(ours=(0.8, 0.7), ft=(0.801, 0.8), seeds=1)
    assert few.startswith(f"Take full fine-tuning rather than {_AT}: accuracy and robustness of full fine-tuning are on average no lower")
    assert few.endswith(f"over {_AT} is shown. That is of these models: train with at least 3 seeds before you rely on it.")
    alone = concluded(ours=(0.8,), ft=(0.801,))
    assert "accuracy of full fine-tuning is on average no lower" in alone
    assert "No difference in accuracy is shown between the two." in alone


def test_a_baseline_by_another_name_needs_no_sweep() -> None:
    made = results(alpha=0.0, ours=(0.8, 0.7), lp=(0.8, 0.7), ft=(0.8, 0.6))
    assert summary(made)["conclusion"] == (
        "Take linear probing: WiSE-FT-LP at α\u00a0=\u00a00 is the same model. Against full fine-tuning a gain of robustness (+10.0 points) is "
        "shown, a loss of accuracy is not."
    )


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_are_said_to_be_few(seeds: int) -> None:
    told = " That is of these models: train with at least 3 seeds before you rely on it."
    assert concluded(seeds=seeds, ours=(0.8, 0.7), ft=(0.8, 0.6)).endswith(told)
    assert told not in concluded(seeds=seeds, ours=(0.8, 0.601), ft=(0.801, 0.6))


def test_nothing_is_concluded_where_nothing_is_compared() -> None:
    assert concluded(ours=(0.8, 0.7)) == ""
    assert concluded(ft=(0.8, 0.6), lp=(0.7, 0.6)) == ""


def test_the_page_begins_with_it() -> None:
    made = study()
    text = plain_page(made).split('<div class="verdict">')[1]
    assert text.strip().startswith(f'<p class="conclusion">{summary(made)["conclusion"]}</p>')
    assert 'class="conclusion"' not in plain_page(results(ft=(0.8, 0.6)))


def test_accuracy_under_corruption_is_in_the_verdict() -> None:
    found = summary(results(ours=(0.8, 0.7, 0.4), ft=(0.8, 0.6, 0.6)))
    (said,) = [one for one in found["sentences"] if one.startswith("Under corruption")]
    gain = found["gain"]["corruption"]
    assert gain["value"] == pytest.approx(-0.2)
    assert gain["high"] < -0.15
    assert said == (
        f"Under corruption (the mean of 1 corruption of 2,000 clouds) WiSE-FT-LP has an accuracy of 40.0\u00a0% "
        f"({found['after']['corruption']['text'].split('(')[1]}, full fine-tuning one of 60.0\u00a0% "
        f"({found['before']['corruption']['text'].split('(')[1]}: {gain['text']} points (a loss)."
    )


def test_fine_tuning_below_linear_probing_is_warned_of() -> None:
    made = results(ours=(0.8, 0.7), ft=(0.6, 0.6), lp=(0.8, 0.7))
    (note,) = summary(made)["notes"]
    assert note.startswith("Full fine-tuning is below linear probing in accuracy: −20.0 (−")
    assert "So full fine-tuning, as it was trained here, does not suit these data" in note
    task = DataSet("scans", "", ["a"], {"train": {"a": 40}, "test": {"a": 9}}, {})
    told = dataclasses.replace(made, study=dataclasses.replace(made.study, task=task, fit="fit:epochs=8,lr=0.01"))
    assert "So full fine-tuning, trained on 40 scans by fit:epochs=8,lr=0.01, does not suit" in summary(told)["notes"][0]
    assert "too few epochs, too few labelled scans and too high a learning rate. Try more epochs (--fit epochs=...), a lower rate" in note
    for lp in ((0.601, 0.6), (0.4, 0.6)):
        assert not summary(results(ours=(0.6, 0.6), ft=(0.6, 0.6), lp=lp))["notes"]


def test_the_file_is_named_and_another_model_that_the_line_takes_is_not_in_it():
    kept = summary(results(ours=(0.8, 0.7), ft=(0.8, 0.6)))["model"]
    assert kept.startswith(f"This file is {_AT}, the model of training seed 0, which has an accuracy of 80.0")
    assert kept.endswith("on the test split.")
    other = summary(results(ours=(0.8, 0.7), ft=(0.8, 0.6), lp_ft=(0.801, 0.8)))["model"]
    assert other.endswith("LP-FT is another model: wisetune run lp-ft with the same options makes its file.")
    assert summary(results(ours=(0.8, 0.601), ft=(0.801, 0.6)))["model"].endswith("wisetune run ft with the same options makes its file.")


def test_a_fine_tuning_that_ended_early_is_told_to_go_on_first() -> None:
    made = results(seeds=2, ours=(0.8, 0.7), ft=(0.6, 0.6), lp=(0.8, 0.7))
    made = dataclasses.replace(made, study=dataclasses.replace(made.study, seeds=[0, 1]))

    def told(*losses: float) -> str:
        log = {f"ft seed {seed}": [{"loss": loss + apart} for loss in losses] for seed, apart in ((0, 0.01), (1, -0.01))}
        return summary(dataclasses.replace(made, log=log))["notes"][0]

    first = "Try more epochs (--fit epochs=...) first, then a lower rate (--fit lr=...) or more labelled scans."
    falling = "its loss was still falling when it ended (1.63 to 1.5 in the last epoch)"
    assert told(1.63, 1.5).endswith(f"carry that on: it was trained for only 2 epochs and {falling}. {first}")
    assert told(*[2.0] * 9).endswith(f"carry that on: it was trained for only 9 epochs. {first}")
    assert told(*[2.0] * 9, 1.63, 1.5).endswith(f"carry that on: {falling}. {first}")
    assert told(1.5).endswith(f"carry that on: it was trained for only 1 epoch. {first}")
    for flat in ([2.0] * 10, [2.0] * 9 + [1.95], [2.0] * 9 + [2.5]):
        assert "does not suit these data" in told(*flat)
