"""The model card: what a model is, what it was measured on, and what to know before using it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wisetune.report.verdict import summary
from wisetune.results import Results


def model_card(results: Results, about: Mapping[str, Any]) -> str:
    """Markdown, from a run's results and from what the model's file says of itself."""
    study, found = results.study, summary(results)
    task = study.task
    sizes = ", ".join(f"{sum(counts.values())} {part}" for part, counts in task.counts.items())
    lines = [
        f"# Point-cloud classifier for {task.name}",
        "",
        f"{found['model']}  ",
        *([f"Over its {len(study.seeds)} training seeds:  "] if len(study.seeds) > 1 else []),
        *[f"{sentence}  " for sentence in found["sentences"]],
        "",
        "## What it is",
        f"- Made by: `{about.get('recipe', study.story)}` (digest `{about.get('digest', '')}`)",
        f"- Started from: `{study.start}`",
        f"- Classes: {', '.join(task.classes)}",
        f"- Input: one object a cloud, up axis {about.get('up', 'z')}, normalised: {about.get('normalise', 'sphere')}",
        "",
        "## How it was measured",
        f"- Clouds: {sizes}; training seeds {', '.join(map(str, study.seeds))}",
        f"- {study.selection}",
        *[f"- Robustness probe: {probe.name} (`{probe.spec}`)" for probe in study.probes],
        "",
        "## Know before use",
        *[f"- {note}" for note in found["notes"]],
        "- Numbers hold for data like the test clouds; check your own with `wisetune data check` and a test folder of your own.",
        "",
        "## Made with",
        ", ".join(f"{name} {value}" for name, value in results.stamp.items()),
        "",
        "```sh",
        study.command,
        "```",
        "",
    ]
    return "\n".join(lines)
