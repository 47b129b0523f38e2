from __future__ import annotations

import dataclasses

import pico
from wisetune.build.job import Runner
from wisetune.build.meter import Silent
from wisetune.data.task import Data
from wisetune.results import Words
from wisetune.store import Store
from wisetune.stories.ft import Ft
from wisetune.stories.story import WORDS, Method, Story, fine_tuning, gentle_tuning


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, text: str) -> None:
        self.lines.append(text)


@dataclasses.dataclass(frozen=True)
class Mine(Story):
    """A story from elsewhere."""

    @property
    def words(self):
        return {self.name: Words("mine", "what it does"), "unused": Words("no", "row")}

    def recipes(self, setting):
        return {Method("ft"): fine_tuning(setting), Method(self.name): gentle_tuning(setting), Method("unsaid"): gentle_tuning(setting)}


def load(text: str, points: int) -> Data:
    data = pico.task(text, points)
    return dataclasses.replace(data, protocol={**data.protocol, "warnings": [f"{text} may leak"]}) if text == "solids" else data


def test_what_a_task_warns_of_is_told_and_stands_in_the_study(tmp_path):
    meter = Told()
    runner = Runner(pico.job(Ft(), warnings=("no probe",)), Store(tmp_path), load, pico.CPU, meter)
    runner.task("solids")
    assert meter.lines == ["solids may leak"]
    assert runner.study().warnings == ["no probe", "solids may leak"]


def test_a_study_has_the_words_of_its_story_for_the_methods_that_it_has(tmp_path):
    runner = Runner(pico.job(Mine()), Store(tmp_path), load, pico.CPU, Silent())
    assert runner.study().methods == {"ft": WORDS["ft"], Mine().name: Words("mine", "what it does")}
