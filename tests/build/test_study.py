"""What a page says of how a job was done."""

from __future__ import annotations

import dataclasses

import pico
from pico import FIT, HEAD_FIT
from wisetune.build.study import study_of
from wisetune.results import Variant, Words
from wisetune.stories.lp import Lp
from wisetune.stories.lp_ft import LpFt
from wisetune.stories.story import WORDS, Story, fine_tuning, gentle_tuning
from wisetune.stories.wise_ft_lp import WiseFtLp


def selection(story, **options) -> str:
    return study_of(pico.experiment(story, **options)).selection


def test_the_page_says_of_every_kind_of_training_which_weights_are_kept():
    best, spoilt = (dataclasses.replace(HEAD_FIT, select=select) for select in ("best", "best-on-test"))
    # Where heads alone are trained, what was said of whole models is not about them.
    assert selection(Lp(), head_fit=best).endswith(" choice. Weights: those of the epoch best on the validation part.")
    said = selection(Lp(), head_fit=spoilt)
    assert said == "Weights: those of the epoch best on the TEST part, whose numbers are too good by that choice."
    assert selection(Lp(), head_fit=spoilt, on="solids,val=0", measures=()) == said
    assert selection(Lp(), fit=dataclasses.replace(FIT, epochs=3, select="best-on-test")).endswith(" choice. Weights: the last epoch's.")
    for story in (LpFt(), WiseFtLp((0.0, 0.5))):
        said = selection(story, head_fit=spoilt)
        assert "Weights of fine-tuned models: the last epoch's." in said
        assert "Weights of heads that train alone: those of the epoch best on the TEST part" in said
        assert selection(story).endswith(" Weights: the last epoch's.")


@dataclasses.dataclass(frozen=True)
class Mine(Story):
    """A story from elsewhere."""

    @property
    def words(self):
        return {self.name: Words("mine", "what it does"), "unused": Words("no", "row")}

    def recipes(self, setting):
        return {Variant("ft"): fine_tuning(setting), Variant(self.name): gentle_tuning(setting), Variant("unsaid"): gentle_tuning(setting)}


def test_a_study_has_the_words_of_its_story_for_the_methods_that_it_has():
    assert study_of(pico.experiment(Mine())).methods == {"ft": WORDS["ft"], Mine().name: Words("mine", "what it does")}
