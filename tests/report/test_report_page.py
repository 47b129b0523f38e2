from __future__ import annotations

import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from studies import bare, fold, hostile, placed, plain_page, recommended, record, study, unchosen, undrawn, unswept

from wisetune.errors import StorageError
from wisetune.files.tmp import tmp_name
from wisetune.records import wilson
from wisetune.report import page, words, write_report
from wisetune.report.board import Board, Estimate, over_seeds
from wisetune.report.drawing import Labels, png
from wisetune.report.plots import curve_svgs, tradeoff_svgs
from wisetune.results import Results, Words
from wisetune.weights.choose import Curve, interval_alpha

LOADS = {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background", "formaction"}


class Reader(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [(tag, value or "") for name, value in attrs if name in LOADS]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def three() -> str:
    return page(study())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_report(study((0,)), tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def one(written: list[Path]) -> str:
    return written[0].read_text(encoding="utf-8")


def test_loads_nothing(three: str) -> None:
    found = Reader(three)
    assert all(value.startswith("#") for _, value in found.loads), found.loads
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(found.tags)
    assert "default-src 'none'" in three
    assert "@import" not in three
    assert "url(http" not in three
    assert len(three) < 2_000_000


def test_ids_are_unique(three: str) -> None:
    ids = Reader(three).ids
    assert len(ids) == len(set(ids))


def test_sections_in_order(three: str) -> None:
    heads = [
        *("The trade-off", "Along alpha", "Which tests decided", "Chosen models and baselines", "Under corruption"),
        *("What is taken for what", "The scans the model got most wrong", "Protocol", "Reproduce", "Merge audit", "Training logs"),
    ]
    places = [three.index(f">{head}<") for head in heads]
    assert places == sorted(places)


def test_votes_stand_on_the_page_where_there_are_any(one: str) -> None:
    made = study((0,))
    vote = placed("ft", None, 0, record("voted accuracy", 0.5, 200, measure="voting:augment=rotate-y"))
    text = plain_page(dataclasses.replace(made, rows=[*made.rows, vote]))
    assert "Votes: the mean of several looks at a cloud, test split" in text
    assert "<td>voting:augment=rotate-y</td>" in text
    assert "<h3>Votes" not in one


def test_says_how_many_seeds(one: str, three: str) -> None:
    assert "One seed: each model was trained once" in one
    assert "One seed" not in three
    assert "Means over 3 seeds" in three
    assert "sd 0." in three
    assert "sd 0." not in one
    assert "by the luck of the clouds; other seeds may not show them" in one
    assert "one in twenty" not in one
    assert "about one in twenty does so by chance" in three


def test_numbers_stand_on_the_page(one: str) -> None:
    assert "77.0 (74.0–79.8)" in one
    assert "chosen on the validation split by the greedy rule; every number here is from the test split" in one
    assert "wisetune run demo:scans --seeds 3 --out demo-report" in one


def _looked(wrong: int, right: int, missed: int) -> str:
    """A page that shows so many clouds of each kind, of a model that got so many wrong."""
    made = study((0, 1), clouds=True)
    clouds = [dataclasses.replace(cloud, predicted="bag", true="bin") for cloud in made.clouds[:wrong]]
    clouds += [dataclasses.replace(cloud, predicted="bag", true="bag") for cloud in made.clouds[:right]]
    rows = [
        dataclasses.replace(row, record=dataclasses.replace(row.record, value=1 - missed / row.record.n))
        if row.record.role == "accuracy"
        else row
        for row in made.rows
    ]
    return plain_page(dataclasses.replace(made, rows=rows, clouds=clouds)).replace("\n", " ")


def test_scans_that_are_right_are_not_called_wrong() -> None:
    both = _looked(2, 4, 2)
    assert "The model of seed 0 took 2 of 804 test scans for something else. These are they." in both
    wrong, right = both.split(">The scans the model got most wrong<")[1].split(">Right, but least sure<")
    first = "<figcaption>True class: <b>bin</b><br>The model said: <b>bag</b>, probability 98.0\u00a0%<br>Probability of bin: 0.1\u00a0%"
    assert f"{first}<span>File: scan_0000.ply</span></figcaption>" in wrong
    assert (wrong.count("True class: <b>bin</b>"), wrong.count("True class: <b>bag</b>")) == (2, 0)
    assert (right.count("True class: <b>bag</b><br>The model said: <b>bag</b>, "), right.count("Probability of")) == (4, 0)
    assert "These are the ones whose true class it found least probable" in _looked(6, 0, 30)
    none = _looked(0, 6, 0)
    assert "most wrong" not in none
    assert (
        "The model of seed 0 took all of 804 test scans for what they are. Of the scans that the model classified right these are" in none
    )


def test_the_protocol_is_in_words() -> None:
    made = study((0,))
    protocol = {
        "val": "0.2 of train, by class",
        "seed": 0,
        "per_class": None,
        "objects": {"train": 3, "val": 2},
        "own_key": 5,
        "counts": {"train": [9]},
    }
    said = dataclasses.replace(made.study, task=dataclasses.replace(made.study.task, protocol=protocol), seconds=754.2, trainings=26)
    text = plain_page(dataclasses.replace(made, study=said)).split(">Protocol<")[1].split(">Robustness probe")[0]
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", text))
    assert facts["Validation part"] == "0.2 of train, by class"
    assert facts["Seed of splits"] == "0"
    assert facts["Objects that are scanned"] == "training: 3; validation: 2"
    assert facts["Own key"] == "5"
    assert facts["Time"] == "13\u00a0min"
    assert not {"per_class", "val", "counts", "Counts", "Digest "} & set(facts)
    again = plain_page(dataclasses.replace(made, study=dataclasses.replace(said, seconds=9.0, found=5)))
    assert "9\u00a0s. Of 26 trainings 5 had been done or begun by another command: that is not in it." in again


def test_numbers_of_both_splits_are_told_apart() -> None:
    text = plain_page(study())
    (here,) = re.findall(r"All numbers below are those of the validation split\.[^<]*", text)
    assert "of the chosen model accuracy " in here
    assert "The SVM that measures robustness here has learnt" in here
    made = study()
    rows = [row for row in made.rows if row.record.split == "val"]
    assert "All numbers below" not in plain_page(dataclasses.replace(made, rows=rows))


def test_counts_of_a_confusion_matrix_say_what_they_count(one: str, three: str) -> None:
    assert "test split: number of scans<" in one
    assert "test split: number of answers, of the models of 3 seeds together: each scan counts 3 times<" in three
    assert re.search(r"\(\d+ of 171\)", three)  # 57 scans, three times


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_axes_end_at_100_percent(seeds: tuple[int, ...]) -> None:
    made = study(seeds)
    rows = []
    for row in made.rows:
        found = row.record
        if found.role in ("accuracy", "robustness"):
            right = round(min(1.0, found.value + 0.24 + 0.01 * row.seed) * found.n)
            low, high = wilson(right, found.n)
            found = dataclasses.replace(found, value=right / found.n, low=low, high=high)
        rows.append(dataclasses.replace(row, record=found))
    board = Board(dataclasses.replace(made, rows=rows))
    for text in (*tradeoff_svgs(board).values(), *curve_svgs(board).values()):
        assert max(float(number) for number in re.findall(r">(\d+(?:\.\d+)?)</text>", text)) <= 100


def test_no_label_lies_on_another_or_on_a_mark() -> None:
    drawn: list[Labels] = []

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        figure.draw_without_rendering()
        spots = [(40.0 + 3 * (number % 4), 40.0 + 3 * (number // 4)) for number in range(16)]
        labels = Labels(axes, spots)
        for number, spot in enumerate(spots):
            labels.put(f"alpha {number}", spot, "#000000", needed=False)
        drawn.append(labels)

    png((4, 4), draw)
    (labels,) = drawn
    boxes = [Text.get_window_extent(text) for text in labels.axes.texts]  # without their lines
    assert 4 <= len(boxes) < 16  # those for which there was room
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    marks = labels.axes.transData.transform([(40.0 + 3 * (number % 4), 40.0 + 3 * (number // 4)) for number in range(16)])
    assert not any(box.contains(*mark) for box in boxes for mark in marks)


def test_an_end_of_a_curve_that_is_a_baseline_has_one_label() -> None:
    for text in tradeoff_svgs(Board(study((0,)))).values():
        written = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", text))
        assert re.search(r"linear\s+probing \(α 0\)", written)
        assert re.search(r"fine-tuning \(α 1\)", written)


def test_hostile_names_are_text() -> None:
    text = page(hostile())
    found = Reader(text)
    assert "<script>alert" not in text
    assert found.tags.count("script") == 4
    assert not found.handlers
    assert "img" not in found.tags
    assert any("<script>alert(1)</script>" in piece for piece in found.texts)
    json.loads(text.split('id="cloud-points">')[1].split("</script>")[0])


def test_hostile_probe_names_stay_text_in_the_pictures() -> None:
    made = study((0,))
    rows = [
        dataclasses.replace(row, record=dataclasses.replace(row.record, data=f"</svg><script>$x^{{$ 物 {row.record.data}"))
        for row in made.rows
    ]
    text = page(dataclasses.replace(made, rows=rows))
    assert "<script>$x" not in text


@pytest.mark.parametrize(
    "made",
    [
        study((0,), probes=False),
        study((0,), corruptions=False, clouds=False),
        dataclasses.replace(study((0,)), study=bare(), stamp={}, log={}, audits={}),
        dataclasses.replace(study((0,)), chosen=[]),
        dataclasses.replace(study((0,)), rows=[row for row in study((0,)).rows if row.record.split == "val"]),
        dataclasses.replace(study((0,)), rows=[row for row in study((0,)).rows if row.alpha is None]),
        dataclasses.replace(study((0,)), study=bare(sweeps=[], headline="lp", reference="lp")),
        Results(bare(), {}, [], [], [], {}, {}),
    ],
    ids=["no probes", "no corruptions, no clouds", "no protocol", "nothing chosen", "no test", "baselines only", "no sweep", "nothing"],
)
def test_missing_pieces_still_give_a_page(made: Results) -> None:
    found = Reader(page(made))
    assert "h1" in found.tags
    assert ("canvas" in found.tags) == bool(made.clouds)
    assert found.tags.count("script") == (4 if made.clouds else 1)


def without_code(text: str) -> str:
    return re.sub(r"<(style|script)\b.*?</\1>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize(("story", "reference"), [("ft", "ft"), ("lp", "lp"), ("lp-ft", "lp")])
def test_a_story_without_a_sweep_says_nothing_of_one(story: str, reference: str) -> None:
    text = without_code(page(unswept(story, reference)))
    assert not re.findall(r"(?i)\b(alphas?|chosen|chose|sweeps?|rules?)\b|[α★]", text)
    name = {"ft": "full fine-tuning", "lp": "linear probing", "lp-ft": "LP-FT"}[story]
    assert f"Accuracy, {name}</span>" in text
    assert ("The trade-off" in text) == ("difference:" in text) == ("differences to" in text) == (story != reference)


def test_a_sweep_without_a_choice_has_its_curve_and_no_star() -> None:
    text = without_code(page(unchosen()))
    assert "Along alpha" in text
    assert "No alpha was chosen; every number here is from the test split" in text
    assert "Accuracy, WiSE-FT-LP at α\u00a0=\u00a01</span>" in text
    assert '<th scope="row" class="name">WiSE-FT-LP</th><td>1</td>' in text
    assert ">Models</h2>" in text
    assert not re.findall(r"chosen(?!;)|★|Chosen|\brules?\b", text)


def test_full_fine_tuning_by_another_name_is_not_compared_with_itself() -> None:
    text = without_code(plain_page(recommended("wise-ft", 1.0)))
    tiles = text.split('<div class="tiles">')[1].split("</header>")[0]
    assert "full fine-tuning:" not in tiles
    assert "difference:" not in tiles
    assert "Points by which the first is above" not in text


def test_a_method_from_elsewhere_has_the_words_of_its_story() -> None:
    made = study((0,))
    rows = [dataclasses.replace(row, method="my_lab:Mine") if row.method == "lp-ft" else row for row in made.rows]
    unsaid = plain_page(dataclasses.replace(made, rows=rows))
    said = dataclasses.replace(
        made.study, methods=made.study.methods | {"my_lab:Mine": Words("elastic <weights>", "a penalty on what moves")}
    )
    text = page(dataclasses.replace(made, rows=rows, study=said))
    assert '<th scope="row" class="name">my_lab:Mine</th>' in unsaid
    assert "my_lab:Mine" not in without_code(text)
    assert '<th scope="row" class="name">elastic &lt;weights&gt;</th>' in text
    names = re.findall(r"<dt>([^<]*)</dt>", text.split("What the methods do")[1].split("</details>")[0])
    assert names == ["WiSE-FT-LP", "WiSE-FT", "full fine-tuning", "linear probing", "fine-tuning, low rate", "elastic &lt;weights&gt;"]


def test_one_swept_method_is_not_both() -> None:
    made = study((0,))
    said = dataclasses.replace(made.study, sweeps=["wise-ft"], headline="wise-ft", recommended=None)
    rows = [row for row in made.rows if row.method != "wise-ft-lp"]
    assert "both methods" not in plain_page(dataclasses.replace(made, study=said, rows=rows))
    assert "both methods" in plain_page(made)


def test_an_alpha_chosen_on_all_seeds_is_not_one_of_at_least_one_seed() -> None:
    made = study()
    assert "★ chosen. Means over" in plain_page(made)
    apart = dataclasses.replace(made, study=bare(), chosen=[one for one in made.chosen if one.seed >= 0])
    assert "★ chosen for at least one seed. Means over" in plain_page(apart)


def test_what_the_picture_shows_is_not_told_to_lie_below_it() -> None:
    for text in tradeoff_svgs(Board(study())).values():
        (below,) = re.findall(r"WiSE-FT at α ≤ (\S+) lies below", text)
        assert below == "0.4"  # alpha 0.5 is near the lower edge


def test_one_model_below_the_picture_is_no_range_of_them() -> None:
    made = study()
    rows = [row for row in made.rows if row.method != "wise-ft" or row.alpha in (0.0, 1.0)]
    for text in tradeoff_svgs(Board(dataclasses.replace(made, rows=rows))).values():
        assert "WiSE-FT at α = 0 lies below" in text


def test_plots_follow_the_page_into_the_dark() -> None:
    for text in tradeoff_svgs(Board(study((0,)))).values():
        assert "var(--ink)" in text
        assert "#1c2330" not in text
        assert 'role="img" aria-label="' in text
        assert "chosen: " in text


def test_equal_results_give_equal_bytes(written: list[Path], tmp_path: Path) -> None:
    other = write_report(study((0,)), tmp_path)
    assert written[0].name == "report.html"
    assert {"results.json", "tables.json", "tradeoff.png", "sweep.csv", "classes.csv"} <= {path.name for path in written}
    for a, b in zip(written, other, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name


def test_a_picture_of_an_earlier_report_does_not_stay_where_there_is_none_now(tmp_path: Path) -> None:
    with undrawn():
        assert tmp_path / "tradeoff.png" in write_report(study((0,)), tmp_path)
        write_report(unswept("ft", "ft"), tmp_path)
    assert not (tmp_path / "tradeoff.png").exists()


def test_the_report_can_be_drawn_again_from_its_numbers(written: list[Path], one: str) -> None:
    (numbers,) = (path for path in written if path.name == "results.json")
    again = Results.from_json(json.loads(numbers.read_text(encoding="utf-8")))
    assert page(again) == one


def test_what_a_killed_run_was_writing_is_removed(tmp_path: Path) -> None:
    with tmp_name(tmp_path) as ours:
        dead = tmp_path / f"{ours.name[:-16]}{'0' * 12}.tmp"
    for path in (dead, tmp_path / "mine.tmp"):
        path.write_text("half")
    with undrawn():
        write_report(study((0,), probes=False), tmp_path)
    assert not dead.exists()
    assert (tmp_path / "mine.tmp").exists()


def test_no_picture_without_both_numbers(tmp_path: Path) -> None:
    with undrawn():
        assert not any(path.suffix == ".png" for path in write_report(study((0,), probes=False), tmp_path))


def test_a_folder_that_cannot_be_written_is_a_write_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with undrawn(), pytest.raises(StorageError):
        write_report(study((0,), clouds=False), tmp_path / "file")


def test_the_tests_of_a_rule_are_told_once_in_short_words_and_few_are_folded() -> None:
    made = study()
    curve = Curve([1, 0.9, 0.8], [0.9, 0.9, 0.7], [0.5, 0.6, 0.7], n=200)
    own = interval_alpha(curve)
    chosen = [
        dataclasses.replace(one, rule="interval", alpha=own.alpha, why=own.explain(), steps=list(own.steps), decided=own.decided)
        if one.seed == -1
        else one
        for one in made.chosen
    ]
    said = dataclasses.replace(made.study, rule="interval")
    text = without_code(plain_page(dataclasses.replace(made, chosen=chosen, study=said)))
    part = text.split(">Which tests decided<")[1].split("</section>")[0]
    assert part.count("<details") == 1
    shown, folded = part.split("<details")
    table = shown.split("<h4>")[1]
    assert table.startswith("WiSE-FT-LP, interval rule, all seeds together: α&nbsp;=&nbsp;0.9</h4>")
    assert (
        '<p class="soft">The most robust alpha at which no loss of accuracy against alpha 1 is shown and at most 1 point seen; of equally '
        in table
    )
    rows = [re.sub(r"<[^>]*>", "|", row) for row in table.split("<tbody>")[1].split("<tr")[1:]]
    assert [re.search(r"\|([\d.]+)\|", row)[1] for row in rows] == ["1", "0.9", "0.8"]
    assert rows[1].startswith(' class="chosen"')
    assert "|no loss of accuracy is shown; the most robust of those accepted|" in rows[1]
    assert "|refused||a loss of accuracy is shown|" in rows[2]
    assert folded.count("<h4>") == len(chosen) - 1
    # What each rule chose stands in one table.
    first = shown.split("</table>")[0]
    assert re.findall(r'<th scope="col">([^<]*)</th>', first) == ["chosen α", "all seeds", "seed 0", "seed 1", "seed 2"]
    assert '<th scope="row" class="name">WiSE-FT-LP, greedy rule</th><td>–</td><td>0.4</td><td>0.3</td><td>0.4</td>' in first


def test_at_ties_the_chosen_row_says_what_decided_also_at_alpha_one() -> None:
    made = study()
    for accuracy, told in (
        ([0.88, 0.96], "|no loss of accuracy is shown; all accepted are equally robust, of these the most accurate|"),
        ([0.96, 0.96], "|where the rule begins; all accepted are equally robust, and equally accurate, of these the largest alpha|"),
    ):
        own = interval_alpha(Curve([1, 0.9], accuracy, [0.875, 0.875], n=16))
        steps, ours = list(own.steps), made.chosen[1]
        chosen = [dataclasses.replace(ours, alpha=own.alpha, why=own.explain(), steps=steps, decided=own.decided)]
        text = without_code(plain_page(dataclasses.replace(made, chosen=chosen, study=dataclasses.replace(made.study, rule="interval"))))
        rows = re.sub(r"<[^>]*>", "|", text.split(">Which tests decided<")[1].split("</section>")[0])
        assert told in rows
        assert "most robust of those" not in rows


@pytest.mark.parametrize(
    ("gains", "low", "high", "colour"),
    [
        ((0.0504,), 0.0004, 0.1004, ""),  # reads +5.0 (0.0 to +10.0)
        ((0.0506,), 0.0006, 0.1006, "up"),  # reads +5.1 (+0.1 to +10.1)
        ((-0.0504,), -0.1004, -0.0004, ""),
        ((-0.0506,), -0.1006, -0.0006, "down"),
        ((0.09, -0.01), 0.01, 0.07, ""),  # the two seeds disagree
        ((0.05, 0.03), 0.01, 0.07, "up"),
    ],
)
def test_the_colour_of_a_difference_is_that_of_the_words_and_of_the_figures_shown(
    monkeypatch: pytest.MonkeyPatch, gains: tuple[float, ...], low: float, high: float, colour: str
) -> None:
    found = over_seeds([Estimate(value, low, high, 400) for value in gains], -1.0)
    assert found is not None
    monkeypatch.setattr(Board, "gain", lambda *_, **__: found)
    text = plain_page(study(tuple(range(len(gains)))))
    figures = words.difference(found.value, found.low, found.high)
    assert f'<span class="change {colour}">difference: {figures} points</span>' in text
    assert set(re.findall(rf'<span class="(\w*)">{re.escape(figures)}</span>', text)) == {colour}
    told = {"": "no difference shown", "up": "a gain for these models", "down": "a loss for these models"}[colour]
    assert f"{figures} points of accuracy ({told})".replace("–", "⁠–⁠") in text


def test_a_cell_that_reads_zero_has_no_colour() -> None:
    made = study((0,))
    rows = [
        dataclasses.replace(row, record=dataclasses.replace(row.record, value=0.5 + 0.0003 * (row.method == "ft")))
        if row.record.role == "corruption"
        else row
        for row in made.rows
    ]
    cells = re.findall(r'<td class="(\w*)"( style="[^"]*")?>0\.0</td>', plain_page(dataclasses.replace(made, rows=rows)))
    assert set(cells) == {("", "")}


def test_clean_accuracy_says_of_how_many_scans_it_is() -> None:
    made = study((0,))
    rows = [
        dataclasses.replace(row, record=dataclasses.replace(row.record, n=100)) if row.record.role == "corruption" else row
        for row in made.rows
    ]
    text = plain_page(dataclasses.replace(made, rows=rows))
    assert '<th scope="col">clean,<br>the same 100 scans</th>' in text
    assert "Clean is the accuracy on the same scans before that, not on all 804 scans as at the top of the page." in text
    assert "as at the top of the page" not in plain_page(made)
    unclean = plain_page(dataclasses.replace(made, rows=[row for row in rows if row.record.detail.get("kind") != "clean"]))
    assert '<th scope="col">clean</th>' in unclean


def test_an_ellipse_is_a_thin_line_that_does_not_cover_the_curves() -> None:
    for text in tradeoff_svgs(Board(study())).values():
        ellipses = [style for style in re.findall(r'style="([^"]*)"', text) if "fill: var" in style and "stroke-opacity: 0.5" in style]
        assert len(ellipses) == 2
        assert all("fill-opacity: 0.03" in style for style in ellipses)


def test_a_few_shot_page_is_called_by_what_was_drawn_and_not_by_a_spelling():
    text = plain_page(fold(3, {"ft": 18, "lp": 14}))
    assert "<h1>5 ways, 10 shots, 20 queries a class, fold 3: accuracy" in text
    assert "few-shot:on=demo:scans" in text
