"""The files of a report, opened again and read."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vizsla import report
from vizsla.curves import Comparison, LearningCurve

NASTY = "<b>bold</b> & $x_1$"


def comparison(strategies=("random", "margin"), seeds: int = 3, ruler: int = 2, **settings) -> Comparison:
    """Margin is behind at first, ahead in the middle, equal at the end; random runs `ruler` times as long."""
    rng = np.random.default_rng(0)
    curves = []
    for seed in range(seeds):
        luck = rng.normal(0, 0.01)
        for strategy in strategies:
            points = []
            for n in range(20, (ruler if strategy == "random" else 1) * 100 + 1, 10):
                lead = 0 if strategy == "random" else 0.05 * np.sin((n - 40) / 60 * np.pi) * (n > 20)
                a = float(0.95 - 2 / (n**0.5) + luck + lead)
                shares = {"accuracy": a, "balanced_accuracy": a, "macro_f1": a}
                points.append({"labels": n, **shares, "nll": 1 - a, "ece": 0.05, "seconds": 0.25})
            curves.append(LearningCurve(strategy, seed, tuple(points)))
    return Comparison(tuple(curves), ("cat", "<b>"), {"data": NASTY, "backbone": "net", **settings})


class Page(HTMLParser):
    """Every tag, every address that a browser might fetch, and the cells of each table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            value for name, value in attrs if name in {"src", "srcset", "href", "data", "action"}
        ]
        if tag == "tr":
            self.rows.append([])
        self._cell = tag in {"td", "th"}
        if self._cell:
            self.rows[-1].append("")

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    return report.write(comparison(ceiling=0.9), tmp_path_factory.mktemp("report") / "new folder")


def test_json_is_the_curves_in_the_published_form(written):
    data = json.loads(written["curves.json"].read_text())
    assert data == comparison().to_json()
    assert list(data[0]) == ["strategy", "seed", "points"]
    assert data[0]["points"][0]["labels"] == 20


def test_csv_holds_the_summary(written):
    rows = list(csv.DictReader(io.StringIO(written["summary.csv"].read_text())))
    for row, expected in zip(rows, comparison().summary(), strict=True):
        assert row["strategy"] == expected["strategy"]
        assert float(row["labels_saved"]) == expected["labels_saved"]
        assert float(row["accuracy_last"]) == expected["accuracy_last"]


def test_png_is_a_wide_picture_that_shows_random_in_grey_and_margin_in_blue(written):
    picture = Image.open(written["curves.png"])
    assert (picture.format, picture.size) == ("PNG", (1920, 1080))
    colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert {(0x7D, 0x84, 0x8C), (0x00, 0x72, 0xB2), (0xFF, 0xFF, 0xFF)} <= colours


def test_the_same_curves_give_the_same_png():
    first, second = (report.render(report.draw(comparison()), "png", dpi=50) for _ in range(2))
    assert first == second


def test_page_fetches_nothing(written):
    page = Page(written["report.html"].read_text())
    assert len(page.addresses) == 4
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in written["report.html"].read_text()


def test_pictures_in_the_page_are_svg_that_fetch_nothing(written):
    for address in Page(written["report.html"].read_text()).addresses:
        svg = base64.b64decode(address.partition(",")[2]).decode()
        assert "<svg" in svg
        links = re.findall(r'(?:href|src)="([^"]*)"', svg)
        assert links
        assert all(link.startswith("#") for link in links)


def test_names_with_markup_are_shown_and_not_obeyed(written):
    text = written["report.html"].read_text()
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; $x_1$" in text
    assert "cat, &lt;b&gt;" in text
    assert "b" not in Page(text).tags


def test_page_says_the_headline_the_table_and_every_seed(written):
    text, shown = written["report.html"].read_text(), comparison()
    page = Page(text)
    assert f"<h1>{shown.headline()}</h1>" in text
    assert shown.saved("margin").sentence.replace("'", "&#39;") in text
    assert [row[0] for row in page.rows] == [
        *("strategy", "random", "margin"),
        *("strategy", "random", "middle, 47–73", "late, 73–100", "margin", "middle, 47–73", "late, 73–100"),
        *("strategy", *["random"] * 3, *["margin"] * 3),
    ]
    margin = dict(zip(page.rows[0], page.rows[2], strict=True))
    row = shown.summary()[1]
    assert margin["at 100"] == f"{row['accuracy_last']:.1%}"
    assert margin["AULC"] == f"{row['aulc']:.1%}"
    assert margin["per round"] == "0.25 s"
    assert page.rows[-1][2] == "100"
    assert "prefers-color-scheme: dark" in text


def test_rewriting_a_report_leaves_only_its_four_files(tmp_path):
    for _ in range(2):
        report.write(comparison(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "curves.json",
        "curves.png",
        "report.html",
        "summary.csv",
    ]


# The plot -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [report.WIDE, report.NARROW])
def test_no_words_of_the_plot_overlap(size):
    names = ("random", "margin", "badge", "typiclust", "entropy", "coreset", "a-plugin-with-a-long-name")
    figure = report.draw(comparison(names, ceiling=0.9), size=size)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    legend = axes.get_legend() or figure.legends[0]
    ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    low, high = axes.get_xlim(), axes.get_ylim()
    ticks = [t for t in ticks if low[0] <= t.get_position()[0] <= low[1] and t.get_position()[1] <= high[1]]
    words = [*axes.texts, *legend.get_texts(), axes.xaxis.label, axes.yaxis.label, axes._left_title, *ticks]
    boxes = [(word.get_text(), word.get_window_extent()) for word in words if word.get_text()]
    clashes = [(a, b) for i, (a, x) in enumerate(boxes) for b, y in boxes[:i] if x.overlaps(y)]
    assert clashes == []
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for _, box in boxes)


def test_regimes_are_written_under_the_axis_from_left_to_right():
    figure = report.draw(comparison())
    figure.draw_without_rendering()
    words = figure.axes[0].texts
    assert [word.get_text() for word in words] == ["before", "where margin pays", "after"]
    edges = [edge for word in words for edge in (word.get_window_extent().x0, word.get_window_extent().x1)]
    assert edges == sorted(edges)
    assert {word.get_position()[1] for word in words} == {0}  # in one row


def test_no_regime_is_marked_where_no_strategy_pays():
    same = [LearningCurve(s, 0, comparison().curves[0].points) for s in ("random", "margin")]
    shown = Comparison(tuple(same), ("a", "b"))
    assert list(report.draw(shown).axes[0].texts) == []
    assert "no stretch of label counts where margin is clearly ahead" in report.html(shown)


def test_lines_are_the_means_with_random_first_and_the_ceiling_dashed():
    shown = comparison(ceiling=0.9)
    lines = report.draw(shown).axes[0].get_lines()
    np.testing.assert_allclose(lines[0].get_xydata(), np.column_stack(shown.mean("random")))
    np.testing.assert_allclose(lines[1].get_xydata(), np.column_stack(shown.mean("margin")))
    assert lines[0].get_color() == report.LIGHT.random
    assert list(lines[2].get_ydata()) == [0.9, 0.9]
    assert lines[2].is_dashed()


def test_every_strategy_of_a_crowd_looks_different():
    crowd = comparison(("random", *(f"s{i}" for i in range(14))), seeds=1)
    looks = {report._colour(crowd, name, report.LIGHT) for name in crowd.strategies}
    assert len(looks) == 15


# Words --------------------------------------------------------------------------------------------------


def leading(lead: float, seeds: int = 10, luck: float = 0.001, runs: int = 1) -> Comparison:
    """Margin ahead of random by `lead` at every label count, give or take `luck`."""
    curves = []
    for seed in range(seeds):
        for strategy, run in [("random", run) for run in range(runs)] + [("margin", 0)]:
            here = lead + luck * (-1) ** seed if strategy == "margin" else 0.0
            points = ({"labels": n, "accuracy": 0.9 - 2 / n + here} for n in range(20, 141, 20))
            curves.append(LearningCurve(strategy, seed, tuple(points), run))
    return Comparison(tuple(curves), ("a", "b"))


@pytest.mark.parametrize(
    ("shown", "sentence"),
    [
        (
            leading(0.01),
            "margin is safe: in every third of the budget it is surely less than one point behind",
        ),
        (
            leading(-0.02),
            "margin loses to random in the early third (−2.0 points), the middle third (−2.0 points) and the late",
        ),
        (
            leading(-0.02, luck=0.1),
            "by chance, in the early third (−2.0 points), the middle third (−2.0 points) and the late third "
            "(−2.0 points). About 40 seeds would tell.",
        ),
        (
            leading(0.0, luck=0.018),
            "could be a point or more behind in the early third (0.0 points), the middle",
        ),
        (leading(-0.02, seeds=7), "Whether margin ever loses to random: too few seeds to tell."),
    ],
)
def test_the_gate_in_words(shown, sentence):
    assert sentence in report.gate_sentence(shown, "margin")
    assert sentence in report.html(shown)


def test_no_more_than_40_seeds_are_asked_for():
    assert "seeds would tell" not in report.gate_sentence(leading(-0.02, seeds=40, luck=0.2), "margin")


def test_the_table_by_thirds_says_range_area_lead_bounds_outcome_and_verdict():
    rows = Page(report.html(leading(-0.02, luck=0))).rows
    row = next(row for row in rows if row[0] == "margin" and row[1] == "early, 20–60")
    area = np.interp(np.linspace(20, 60, 3), range(20, 141, 20), [0.88 - 2 / n for n in range(20, 141, 20)])
    mean = (area[0] / 2 + area[1] + area[2] / 2) / 2
    assert row[2:] == [f"{mean:.1%}", "−2.0", "−2.0 to −2.0", "loss (p .0059)", "loses"]  # 3 × 2/1024
    random = next(row for row in rows if row[0] == "random" and row[1] == "early, 20–60")
    assert random[3:] == ["–"] * 4


def test_each_figure_of_the_page_is_explained():
    text = report.html(leading(0.01, runs=2))
    for figure in ("early, middle, late", "lead, 95% bounds", "win, tie, loss", "never-lose gate", "beats"):
        assert f"<dt>{figure}</dt>" in text
    assert "over the mean of 2 random runs per seed" in text
    assert "against random&#39;s first run" in text
    assert "<dt>all labelled</dt>" in report.html(comparison(ceiling=0.9))
    assert "<dt>all labelled</dt>" not in text  # no ceiling was measured


def test_the_penalty_matrix_ends_with_how_often_each_is_beaten():
    rows = Page(report.html(leading(0.01))).rows
    start = next(i for i, row in enumerate(rows) if row[0] == "beats →")
    assert rows[start : start + 4] == [
        ["beats →", "random", "margin"],
        ["random", "", "0.00"],
        ["margin", "1.00", ""],
        ["beaten, mean", "1.00", "0.00"],
    ]
    assert "beats →" not in report.html(leading(0.01, seeds=7))


def test_with_8_seeds_the_printed_table_ends_with_the_gate():
    shown = leading(0.01)
    assert printed(shown).splitlines()[-2:] == [shown.headline(), report.gate_sentence(shown, "margin")]
    few = leading(0.01, seeds=7)
    assert printed(few).splitlines()[-1] == few.headline()


def printed(shown: Comparison, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    report.print_table(shown, console)
    return console.file.getvalue()


def test_print_table_shows_each_strategy_and_ends_with_the_headline():
    shown = comparison()
    lines = printed(shown).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["strategy", "random", "margin"]
    assert lines[-1] == shown.headline()
    assert len(lines) == 5


def test_print_table_does_not_obey_markup_in_names():
    assert "[red]odd" in printed(comparison(("random", "[red]odd")))


def test_levels_never_reached_are_marked_with_a_dagger():
    flat = LearningCurve("flat", 0, tuple({"labels": n, "accuracy": 0.5} for n in (10, 20, 40)))
    ruler = LearningCurve("random", 0, tuple({"labels": n, "accuracy": n / 50} for n in (10, 20, 40)))
    shown = Comparison((flat, ruler), ("a", "b"))
    assert "†" in printed(shown)
    assert "† Some accuracies were never reached" in report.html(shown)
    assert "†" not in printed(comparison(ruler=1))


@pytest.mark.parametrize("strategies", [("random",), ("margin",), ("margin", "badge")])
def test_a_report_without_a_pair_to_compare_says_what_was_reached(strategies, tmp_path):
    shown = comparison(strategies, ruler=1)
    text = report.write(shown, tmp_path)["report.html"].read_text()
    assert f"<h1>{shown.headline()}</h1>" in text
    assert "where it pays" not in text
    assert ("labels saved" in text) == ("random" in strategies)


def test_a_folder_named_in_a_script_without_a_font_is_drawn_without_a_warning(tmp_path):
    """Warnings are errors in these tests: DejaVu Sans has no 狗."""
    files = report.write(comparison(data="照片/狗", seeds=1), tmp_path)
    assert "照片/狗" in files["report.html"].read_text("utf-8")
