"""The head that weighs regression and graph by how well they foretell labels that were held out."""

import numpy as np
import pytest
import torch

from vizsla.functional.geometry import unit_rows
from vizsla.functional.graph import hearing, neighbour_graph, spread
from vizsla.models.blend import (
    BlendHead,
    blend,
    distilled,
    distilled_out_of_fold,
    powers_of,
    product,
    propagate,
)
from vizsla.models.heads import LogisticHead, out_of_fold


def rings(n=400, seed=0):
    """Two crescents in ten dimensions: neighbours know the class, no plane does."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    angle = rng.uniform(0, np.pi, n)
    sign = np.where(labels, -1, 1)
    flat = np.stack([sign * np.cos(angle) + 0.5 * labels, sign * np.sin(angle) + 0.3 * labels], axis=1)
    rows = np.hstack([flat, 0.02 * rng.normal(size=(n, 7)), np.full((n, 1), 0.4)])
    return unit_rows(rows), labels


def noise(n=300, seed=0):
    """One straight border between classes, and features in which neighbours are not alike."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 60))
    return unit_rows(rows), (rows[:, 0] > 0).astype(np.int64)


def right(probs, labels):
    return (probs.argmax(axis=1) == labels).mean()


def by_graph(graph, labelled, labels, c):
    """Probabilities of all rows, and of the labelled each without its own label."""
    return propagate(hearing(graph, labelled, labels, np.arange(len(labelled)), c))


def test_where_neighbours_know_more_the_graph_is_believed_and_where_a_plane_does_the_regression():
    for rows, labels, graph_wins in ((*rings(), True), (*noise(), False)):
        graph = neighbour_graph(torch.from_numpy(rows))
        labelled = np.random.default_rng(1).permutation(len(rows))[:100]
        found = blend(rows, graph, labelled, labels[labelled], 2)
        regression, heard = found.powers
        assert (heard > regression) == graph_wins


def test_the_blend_is_at_least_as_good_as_the_better_of_its_parts_on_either_kind_of_data():
    for rows, labels in (rings(), noise()):
        graph = neighbour_graph(torch.from_numpy(rows))
        labelled = np.random.default_rng(1).permutation(len(rows))[:100]
        rest = np.setdiff1d(np.arange(len(rows)), labelled)
        head = LogisticHead(2)
        head.fit(rows[labelled], labels[labelled])
        heard, _ = by_graph(graph, labelled, labels[labelled], 2)
        better = max(right(head.predict(rows)[rest], labels[rest]), right(heard[rest], labels[rest]))
        found = blend(rows, graph, labelled, labels[labelled], 2)
        assert right(found.probs[rest], labels[rest]) >= better - 0.02


def test_held_out_probabilities_do_not_depend_on_the_labels_own_class():
    rows, labels = rings()
    graph = neighbour_graph(torch.from_numpy(rows))
    labelled = np.arange(40)
    _, unheard = by_graph(graph, labelled, labels[labelled], 2)
    exact = np.linalg.inv(np.eye(len(rows)) - 0.9 * graph.weights.toarray())
    for place in range(0, 40, 9):
        others = np.delete(labelled, place)
        told = np.zeros((len(rows), 2))
        told[others, labels[others]] = 1
        without = (exact @ told)[place]
        assert unheard[place] == pytest.approx(without / without.sum(), abs=0.02)


def test_powers_are_one_half_each_where_nothing_tells():
    parts = np.full((3, 3), 1 / 3)
    assert powers_of(parts, parts, np.array([0, 1, 2])) == (0.5, 0.5)


def test_powers_tell_a_part_that_knows_from_one_that_guesses_and_one_that_is_too_sure():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    sure = np.where(rng.random(400) < 0.7, labels, 1 - labels)  # right in 7 of 10, and says 98%
    knows = np.where(np.eye(2)[sure] > 0, 0.98, 0.02)
    guesses = rng.dirichlet([2, 2], 400)
    a, b = powers_of(knows, guesses, labels)
    assert (a, b) == (0.25, 0.0)  # the odds 49 become 2.6, and 7 to 3 are 2.3
    assert powers_of(guesses, knows, labels) == (0.0, 0.25)


def test_a_product_of_experts_is_one_by_hand():
    found = product(np.array([[0.8, 0.2]]), np.array([[0.5, 0.5]]), (0.5, 1.0))
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3]], atol=1e-6)  # √.8 : √.2 = 2 : 1


def test_the_distilled_head_is_linear_and_agrees_with_the_blend_on_rows_it_was_not_taught():
    rng = np.random.default_rng(0)
    labels = np.arange(500) % 4
    rows = unit_rows(np.eye(12)[labels * 2] + 0.25 * rng.normal(size=(500, 12)))
    graph = neighbour_graph(torch.from_numpy(rows[:400]))
    labelled = np.arange(12)
    found = blend(rows[:400], graph, labelled, labels[:12], 4)
    head = distilled(rows[:400], found, labelled, labels[:12])
    assert isinstance(head, LogisticHead)
    assert head.weights.shape == (4, 12)
    plain = LogisticHead(4)
    plain.fit(rows[:12], labels[:12])
    assert right(head.predict(rows[400:]), labels[400:]) >= right(plain.predict(rows[400:]), labels[400:])
    agree = head.predict(rows[:400]).argmax(axis=1) == found.probs.argmax(axis=1)
    assert agree.mean() > 0.95


def test_held_out_the_distilled_head_knows_nothing_of_a_label_and_all_of_what_others_tell():
    rng = np.random.default_rng(0)
    rows, chance = unit_rows(rng.normal(size=(600, 30))), rng.integers(0, 2, 600)
    for labels, least, most in ((chance, 0.4, 0.6), ((rows[:, 0] > 0).astype(np.int64), 0.8, 1.0)):
        graph, labelled = neighbour_graph(torch.from_numpy(rows)), np.arange(200)
        found = blend(rows, graph, labelled, labels[:200], 2)
        assert (
            least <= right(distilled_out_of_fold(rows, found, labelled, labels[:200]), labels[:200]) <= most
        )


def test_a_pool_of_which_every_image_is_labelled_still_has_its_linear_head_and_held_out_probabilities():
    rows, labels = rings(60)
    everything = np.arange(60)
    found = blend(rows, neighbour_graph(torch.from_numpy(rows)), everything, labels, 2)
    assert right(distilled(rows, found, everything, labels).predict(rows), labels) > 0.8
    assert right(distilled_out_of_fold(rows, found, everything, labels), labels) > 0.7


def test_a_pool_of_near_duplicates_does_not_make_the_graph_look_wiser_than_it_is():
    """What a row was told comes back to it from its copies: heard as evidence, it would win the graph all trust."""
    rng = np.random.default_rng(0)
    originals = np.hstack([np.arange(200)[:, None] % 2 * 0.6, rng.normal(size=(200, 20))])
    rows = unit_rows(np.repeat(originals, 20, axis=0) + 0.01 * rng.normal(size=(4000, 21)))
    truth = np.repeat(np.arange(200) % 2, 20)
    labelled = rng.permutation(4000)[:150]
    found = blend(rows, neighbour_graph(torch.from_numpy(rows)), labelled, truth[labelled], 2)
    head = LogisticHead(2)
    head.fit(rows[labelled], truth[labelled])
    assert right(found.held_out, truth[labelled]) == pytest.approx(right(found.probs, truth), abs=0.12)
    assert right(found.probs, truth) >= right(head.predict(rows), truth) - 0.02


def test_one_label_and_labels_of_one_class_are_enough():
    rows, _ = rings(60)
    graph = neighbour_graph(torch.from_numpy(rows))
    for labelled, labels in (([3], [1]), ([3, 4], [1, 1])):
        found = blend(rows, graph, np.array(labelled), np.array(labels), 3)
        assert found.probs.argmax(axis=1).tolist() == [1] * 60
        assert np.isfinite(found.held_out).all()


def test_without_a_pool_the_blend_is_logistic_regression():
    rows, labels = rings(60)
    plain, head = LogisticHead(2), BlendHead(2)
    plain.fit(rows, labels)
    head.fit(rows, labels)
    np.testing.assert_array_equal(head.predict(rows), plain.predict(rows))


def test_labels_that_are_never_spread_leave_all_classes_alike():
    graph = neighbour_graph(torch.zeros(5, 2))
    assert not spread(graph, np.eye(5, 2, dtype=np.float32))[2:].any()
    probs, _ = by_graph(graph, np.array([0]), np.array([1]), 2)
    np.testing.assert_allclose(probs[3], [0.5, 0.5])
    assert out_of_fold(np.ones((1, 2), np.float32), np.array([0]), 2).tolist() == [[0.5, 0.5]]
