from __future__ import annotations

import dataclasses

import pico
from wisetune.build.job import Runner
from wisetune.build.meter import Silent
from wisetune.data.task import Data
from wisetune.store import Store
from wisetune.stories.ft import Ft


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, text: str) -> None:
        self.lines.append(text)


def load(text: str, points: int) -> Data:
    data = pico.task(text, points)
    return dataclasses.replace(data, protocol={**data.protocol, "warnings": [f"{text} may leak"]}) if text == "solids" else data


def test_what_a_task_warns_of_is_told_and_stands_in_the_study(tmp_path):
    meter = Told()
    runner = Runner(pico.job(Ft(), warnings=("no probe",)), Store(tmp_path), load, pico.CPU, meter)
    runner.task("solids")
    assert meter.lines == ["solids may leak"]
    assert runner.study().warnings == ["no probe", "solids may leak"]
