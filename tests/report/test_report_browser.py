"""The page in a real browser. With WISETUNE_SHOTS=DIR the screenshots stay there for a person to look at."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import chrome
import pytest
from studies import comparison, hostile, study

from wisetune.report import write_report
from wisetune.results import Results

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        chrome.binary() is None, reason="no chromium or chrome on the path (apt-get install chromium, or set WISETUNE_CHROME)"
    ),
]
# Brightness and number of colours of what each canvas shows.
DRAWN = """[...document.querySelectorAll('#views canvas')].map(canvas => {
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
})"""
DRAG = """(async () => {
  const canvas = document.querySelector('#views canvas');
  const before = canvas.toDataURL();
  const send = (type, x) => canvas.dispatchEvent(new PointerEvent(type, {pointerId: 1, clientX: x, clientY: 50, button: 0, buttons: 1, bubbles: true}));
  canvas.setPointerCapture = canvas.releasePointerCapture = () => {};
  send('pointerdown', 50); send('pointermove', 110); send('pointerup', 110);
  const dragged = canvas.toDataURL();
  canvas.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowUp', bubbles: true}));
  return [before !== dragged, dragged !== canvas.toDataURL()];
})()"""
# Of every table in sight: whether it is wider than its place, and whether it says that it scrolls.
TABLES = """[...document.querySelectorAll('.scroll')].filter(one => one.clientWidth > 0).map(one => [
  one.scrollWidth > one.clientWidth + 1, getComputedStyle(one, '::before').content.includes('scroll sideways')])"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    return {
        name: write_report(made, folder / name)[0]
        for name, made in (("three", study()), ("one", study((0,))), ("hostile", hostile()), ("wide", wide()), ("compared", comparison()))
    }


def wide() -> Results:
    """A study whose table of models is as wide as those of real ones: a rule chose three alphas, and differences have two digits."""
    made = study()
    alphas = {0: 0.8, 1: 0.9, 2: 0.7}
    rows = [
        dataclasses.replace(row, record=dataclasses.replace(row.record, value=row.record.value - 0.2, low=row.record.low - 0.2))
        if row.method in ("lp", "lp-ft", "ft-low-lr")
        else row
        for row in made.rows
    ]
    return dataclasses.replace(made, rows=rows, chosen=[dataclasses.replace(one, alpha=alphas.get(one.seed, 0.4)) for one in made.chosen])


@pytest.fixture(scope="module", params=["webgl", "2d"])
def tab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[chrome.Tab, str]]:
    flags = chrome.WEBGL if request.param == "webgl" else chrome.NO_WEBGL
    with chrome.browser(tmp_path_factory.mktemp("chrome") / "profile", *flags) as opened:
        yield opened, request.param


@pytest.mark.parametrize(("name", "width"), [("three", 1280), ("wide", 1280), ("one", 390), ("hostile", 390)])
def test_the_page_in_a_browser(tab: tuple[chrome.Tab, str], reports: dict[str, Path], tmp_path: Path, name: str, width: int) -> None:
    opened, renderer = tab
    opened.open(reports[name], width)
    opened.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    opened.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert opened.problems() == []
    assert opened.requests() == [reports[name].as_uri()]
    assert opened.evaluate("window.innerWidth") == width
    assert opened.evaluate("document.scrollingElement.scrollWidth") <= width
    tables = opened.evaluate(TABLES)
    assert [says for _, says in tables] == [is_wide for is_wide, _ in tables]
    assert any(is_wide for is_wide, _ in tables) == (width < 600)
    assert opened.evaluate("document.getElementById('views').dataset.drawn") == renderer
    colours = opened.evaluate(DRAWN)
    assert len(colours) == 12
    assert min(colours) > 20, colours
    assert opened.evaluate(DRAG) == [True, True]
    assert opened.evaluate("[...document.querySelectorAll('.plot svg')].filter(one => one.clientWidth > 0).length") == 2
    assert opened.problems() == []
    shots = Path(os.environ.get("WISETUNE_SHOTS") or tmp_path)
    opened.screenshot(shots / f"{name}-{width}-{renderer}.png")
    assert (shots / f"{name}-{width}-{renderer}.png").stat().st_size > 10_000


@pytest.mark.parametrize("width", [1280, 390])
def test_a_comparison_of_a_dozen_fits(tab: tuple[chrome.Tab, str], reports: dict[str, Path], tmp_path: Path, width: int) -> None:
    opened, renderer = tab
    opened.open(reports["compared"], width)
    assert opened.problems() == []
    assert opened.evaluate("document.scrollingElement.scrollWidth") <= width
    tables = opened.evaluate(TABLES)
    assert [says for _, says in tables] == [is_wide for is_wide, _ in tables]
    assert any(is_wide for is_wide, _ in tables) == (width < 600)
    assert opened.evaluate("document.querySelectorAll('section[aria-labelledby=h-costs] tbody tr').length") == 12
    shots = Path(os.environ.get("WISETUNE_SHOTS") or tmp_path)
    opened.screenshot(shots / f"compared-{width}-{renderer}.png")
