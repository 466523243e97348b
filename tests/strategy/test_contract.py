"""The contract of strategies finds what is broken, in ours and in those of plug-ins."""

import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vizsla.errors import BadBatch
from vizsla.strategy import Strategy, View, strategies
from vizsla.testing import check_strategy, toy_view
from vizsla.types import Batch

UNSEEDED = np.random.default_rng()


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip leaves of a package that declares two strategies, one of them broken."""
    info = tmp_path / "bold-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bold\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[vizsla.strategies]\nbold = bold_for_test:bold\nstuck = bold_for_test:stuck\n"
    )
    (tmp_path / "bold_for_test.py").write_text(
        textwrap.dedent("""
        import numpy as np
        from vizsla.strategy import Strategy

        def choose(view, n, rng):
            return view.top(view.embeddings.rows[view.embeddings.candidates].float().norm(dim=1), n, rng)

        def first_again_and_again(view, n, rng):
            return view.pick(np.zeros(n, np.int64), np.zeros(n))

        bold = Strategy("bold", frozenset({"embeddings"}), choose)
        stuck = Strategy("stuck", frozenset(), first_again_and_again)
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(strategies, "_entries", dict(strategies._entries))
    monkeypatch.setattr(strategies, "_plugins_loaded", False)


@pytest.mark.usefixtures("plug_in")
def test_a_strategy_of_an_installed_package_is_listed_checked_and_chosen():
    assert "bold" in list(strategies)
    check_strategy("bold")
    view = toy_view(9)
    lengths = view.embeddings.rows[view.embeddings.candidates].norm(dim=1)
    batch = strategies["bold"].choose(view, 1, np.random.default_rng(0))
    assert batch.ids.tolist() == [view.ids[int(lengths.argmax())]]


@pytest.mark.usefixtures("plug_in")
def test_a_broken_strategy_of_an_installed_package_is_found():
    with pytest.raises(
        AssertionError, match="'stuck', 7 of 40 images, an ordinary pool: gave an image twice"
    ):
        check_strategy("stuck")


def test_a_strategy_registered_as_the_program_runs_is_checked_by_its_name(monkeypatch):
    monkeypatch.setattr(strategies, "_entries", dict(strategies._entries))

    @strategies.rule("last")
    def last(view, n, rng):
        return view.pick(np.arange(len(view.ids))[-n:], np.zeros(n))

    check_strategy("last")


def top(view: View, n: int, scores: torch.Tensor) -> Batch:
    return view.top(scores.double(), n, np.random.default_rng(0))


def repeats(view, n, rng):
    return view.pick(np.arange(n) // 2, np.zeros(n))


def gives_positions(view, n, rng):
    return Batch(np.arange(n), np.zeros(n), view.strategy)


def is_not_repeatable(view, n, rng):
    return view.pick(UNSEEDED.permutation(len(view.ids))[:n], np.zeros(n))


def gives_too_few(view, n, rng):
    return view.pick(np.arange(max(n - 1, 1)), np.zeros(max(n - 1, 1)))


def gives_nan(view, n, rng):
    probs = view.probs.float()
    values = -(probs * probs.log()).sum(dim=1)  # 0 · ln 0
    order = values.argsort(descending=True)[:n].numpy()
    return view.pick(order, values[torch.from_numpy(order)].double().numpy())


def takes_ids_for_positions(view, n, rng):
    return view.pick((view.ids % len(view.ids)).argsort(kind="stable")[:n], np.zeros(n))


def looks_at_all_rows(view, n, rng):
    centre = view.embeddings.rows.float().mean(dim=0)
    rows = view.embeddings.rows[view.embeddings.candidates].float()
    return top(view, n, -(rows - centre).norm(dim=1))


def takes_rows_for_positions(view, n, rng):
    return view.pick(view.embeddings.candidates[:n], np.zeros(n))


def sorts_the_view(view, n, rng):
    view.probs.copy_(view.probs.sort(dim=0).values)
    return view.pick(np.arange(n), np.zeros(n))


def fails_without_labels(view, n, rng):
    view.labels.max()
    return view.pick(np.arange(n), np.zeros(n))


def reads_what_it_has_not_declared(view, n, rng):
    return top(view, n, view.head.pool.rows[view.head.pool.candidates].norm(dim=1))


@pytest.mark.parametrize(
    ("rule", "needs", "error", "message"),
    [
        (repeats, "probs", AssertionError, "gave an image twice"),
        (gives_positions, "probs", AssertionError, "ids from outside the view"),
        (is_not_repeatable, "probs", AssertionError, "is not repeatable"),
        (gives_too_few, "probs", AssertionError, "gave 6 images, not 7"),
        (gives_nan, "probs", AssertionError, "scores that are NaN"),
        (takes_ids_for_positions, "probs", AssertionError, "ids used as positions"),
        (looks_at_all_rows, "embeddings", AssertionError, "neither candidates nor labelled"),
        (takes_rows_for_positions, "embeddings", IndexError, "out of bounds"),
        (sorts_the_view, "probs", AssertionError, "changed the arrays of the view"),
        (fails_without_labels, "labels", ValueError, "zero-size"),
        (
            reads_what_it_has_not_declared,
            "probs",
            AttributeError,
            "'NoneType' object has no attribute 'pool'",
        ),
    ],
)
def test_the_contract_finds_a_strategy_that(rule, needs, error, message):
    with pytest.raises(error, match=message):
        check_strategy(Strategy(rule.__name__, frozenset({needs}), rule))


def test_a_failure_says_on_which_pool():
    with pytest.raises(ValueError, match="zero-size") as failure:
        check_strategy(Strategy("brittle", frozenset({"labels"}), fails_without_labels))
    assert failure.value.__notes__ == ["strategy 'brittle' failed on 1 of 40 images, nothing labelled"]


def test_a_strategy_that_does_not_say_when_images_run_short_is_found():
    class Generous(Strategy):
        def choose(self, view, n, rng):
            return super().choose(view, min(n, len(view.ids)), rng)

    with pytest.raises(AssertionError, match="gave a batch of 6 from 5 images"):
        check_strategy(replace_class(strategies["random"], Generous))


def replace_class(strategy: Strategy, kind: type[Strategy]) -> Strategy:
    return kind(strategy.name, strategy.needs, strategy.rule)


def test_the_toy_view_has_every_part_and_its_head_gave_the_probabilities():
    view = toy_view(9, labelled=4)
    pool, head = view.embeddings, view.head
    assert sorted([*pool.candidates, *pool.labelled]) != list(range(13))  # in mixed order, others between
    assert pool.candidates.tolist() != head.pool.candidates.tolist()
    same = head.pool.rows[head.pool.candidates], pool.rows[pool.candidates]
    torch.testing.assert_close(*same)
    logits = same[0] @ head.weight.T + head.bias
    torch.testing.assert_close(view.probs, logits.softmax(dim=1))
    assert view.draws(np.arange(9)).shape == (9, 6, 4)
    assert view.committee(np.arange(9)).shape == (9, 5, 4)
    assert len(view.labels) == len(view.labelled_probs) == 4
    assert replace(view, ids=view.ids).ids.tolist() == [3, 10, 17, 24, 31, 38, 45, 52, 59]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (repeats, "'mine' gave an image twice"),
        (gives_positions, "ids from outside the view"),
        (gives_too_few, "gave 6 images, not 7"),
        (lambda view, n, rng: list(range(n)), "gave a list, not a Batch"),
        (lambda view, n, rng: None, "gave a NoneType, not a Batch"),
        (lambda view, n, rng: Batch(view.ids[:n].astype(float), np.zeros(n), "mine"), "ids of float64"),
        (lambda view, n, rng: Batch(view.ids[:n], np.zeros(n + 1), "mine"), "scores of shape"),
    ],
)
def test_a_batch_of_a_strategy_of_ones_own_is_checked_before_it_counts(rule, message):
    with pytest.raises(BadBatch, match=message):
        Strategy("mine", frozenset(), rule).choose(toy_view(), 7, np.random.default_rng(0))
