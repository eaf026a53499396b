"""The HTML report, as a browser shows it."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import browser_page

from skmedimg.evaluation import evaluate
from skmedimg.evaluation._html import svg_of

_EVERYTHING = """
(() => {
  const wide = [...document.querySelectorAll("main *, header *, aside *")].filter(
    e => !e.closest(".table, .wide") && !e.closest("svg")
      && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1);
  return {
    overflow: document.documentElement.scrollWidth
      - document.documentElement.clientWidth,
    wide: wide.map(e => e.outerHTML.slice(0, 80)),
    headings: [...document.querySelectorAll("h1, h2, h3")].map(e => e.tagName),
    unnamed: [...document.querySelectorAll("svg, img")].filter(
      e => !(e.getAttribute("aria-label") || e.getAttribute("alt"))).length,
    figures: document.querySelectorAll("figure > svg[role=img]").length,
    captions: document.querySelectorAll("figure > figcaption").length,
    smallest: Math.min(...[...document.querySelectorAll("main p, td, th, svg text")]
      .map(e => e.getBoundingClientRect().height)),
    links: [...document.querySelectorAll("nav a")].filter(
      e => !document.querySelector(e.getAttribute("href"))).length,
    ids: [...document.querySelectorAll("[id]")].map(e => e.id),
    scripts: document.scripts.length,
  };
})()
"""


def make_report(show_images=False):
    rng = np.random.default_rng(0)
    lesion, patient = np.arange(400) // 2, np.arange(400) // 4
    y = (rng.random(200) < 0.4).astype(int)[lesion]
    proba = 1 / (1 + np.exp(1 - 2 * y - rng.normal(size=400)))
    return evaluate(
        proba,
        X=rng.integers(0, 255, (400, 28, 28), dtype=np.uint8),
        y=y,
        class_names={0: "benign <b>", 1: "malignant & more"},
        unit=lesion,
        groups=patient,
        subgroups={
            "a site with a name that is long": np.array(["A", "B"])[patient % 2]
        },
        compare_with={"Other": np.clip(proba + 0.2 * rng.random(400), 0, 1)},
        n_bootstrap=200,
        show_images=show_images,
    )


@pytest.fixture(scope="module")
def report_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    make_report(show_images=True).to_html(path)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("width", [375, 1280])
def test_a_browser_shows_it_whole_and_asks_for_nothing(page, report_file, width):
    page.show(report_file, width)
    found = page.evaluate(_EVERYTHING)
    assert page.complaints() == []
    assert page.requests() == [report_file.as_uri()]
    assert found["overflow"] == 0
    assert found["wide"] == []
    assert found["headings"][0] == "H1"
    assert set(found["headings"][1:]) == {"H2"}
    assert found["unnamed"] == 0
    assert found["figures"] == found["captions"] == 6
    assert found["links"] == 0
    assert found["scripts"] == 0
    # Pixels from the top to the bottom of a letter.
    assert found["smallest"] >= 9
    ids = found["ids"]
    assert len(ids) == len(set(ids))


def test_it_is_small_and_whole_by_itself(report_file):
    text = report_file.read_text(encoding="utf-8")
    assert len(text) < 3e6
    assert not re.search(r'(?:src|href)="(?!#|data:)', text.replace("xlink:", ""))
    assert "benign &lt;b&gt;" in text
    assert "<b>" not in text

    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "link", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_startendtag(self, tag, attrs):
            pass

    tags = Tags()
    tags.feed(text)
    assert tags.open == []


def test_images_are_in_it_only_when_asked(report_file):
    shown = report_file.read_text(encoding="utf-8")
    assert shown.count("data:image/png") == 10
    hidden = make_report()
    names = [plot.name for section in hidden.sections for plot in section.plots]
    assert "hardest-cases" not in names


def test_drawings_are_the_same_twice_and_apart_from_each_other():
    plots = [plot for section in make_report().sections for plot in section.plots]
    first, second = (svg_of(plot) for plot in plots[:2])
    assert svg_of(plots[0]) == first
    ids = [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in (first, second)]
    assert not ids[0] & ids[1]
    for svg, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r'(?:url\(#|href="#)([^")]*)', svg)) <= own
