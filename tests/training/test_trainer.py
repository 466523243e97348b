"""What happens behind the person who labels."""

import textwrap
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import vizsla
from vizsla.models.bundle import Bundle
from vizsla.models.heads import out_of_fold
from vizsla.store import Answer
from vizsla.training.fit import checks, fit, rank
from vizsla.training.pool import known
from vizsla.training.trainer import Trainer


def versions(project):
    return [(model.version, model.labels_used) for model in project.store.models() if model.state == "ready"]


def test_the_first_model_comes_with_five_labels_of_two_classes_and_the_next_with_a_tenth_more(
    project, label, settle
):
    trainer = Trainer(project)
    settle(trainer)
    label(9, "red")
    settle(trainer)
    assert versions(project) == []
    label(1, "blue")
    settle(trainer)
    assert versions(project) == [(1, 10)]
    label(4)
    settle(trainer)
    assert versions(project) == [(1, 10)]
    label(1)
    settle(trainer)
    assert versions(project) == [(1, 10), (2, 15)]


def test_another_trainer_goes_on_where_the_first_was_killed(project, label, settle):
    settle(Trainer(project))
    label(10)
    cut_off = Trainer(project)
    project.store.start_model(10, "logistic", "toys")  # killed right after
    settle(cut_off)
    assert [model.state for model in project.store.models()] == ["failed", "ready"]
    settle(Trainer(project))
    assert len(project.store.models()) == 2
    label(5)
    settle(Trainer(project))
    assert versions(project) == [(2, 10), (3, 15)]


def test_a_request_trains_on_one_label_more_but_never_on_none(project, label, settle):
    trainer = Trainer(project)
    settle(trainer)
    label(10)
    settle(trainer)
    project.ask_for_training()
    settle(trainer)
    assert len(versions(project)) == 1
    label(1)
    project.ask_for_training()
    settle(trainer)
    assert versions(project) == [(1, 10), (2, 11)]


def test_answers_that_changed_count_as_news(project, label, settle):
    trainer = Trainer(project)
    settle(trainer)
    done = label(12)
    settle(trainer)
    me = project.store.annotator("me").id
    for item in done[:5]:
        project.store.label(me, Answer(item.image_id, "blue" if "green" in item.path else "green"))
    settle(trainer)
    assert versions(project) == [(1, 12), (2, 12)]
    project.store.merge_class("green", "red")
    project.ask_for_training()
    settle(trainer)
    assert len(versions(project)) == 3


def test_the_ranking_is_that_of_the_strategy_with_random_checks_in_between(project, label, settle):
    project.change(strategy="margin")
    trainer = Trainer(project)
    settle(trainer)
    label(12)
    settle(trainer)
    rest = project.store.claim(project.store.annotator("you").id, 100)
    marks = [item.source for item in rest]
    assert marks[:15].count("audit") == 3  # a fifth while there are fewer than thirty
    assert all(item.suggestion is None for item in rest if item.source == "audit")
    rows = trainer.pool.rows()
    fitted = fit(rows, known(project), about={})
    unsure = np.sort(fitted.probs, axis=1)
    margin = dict(zip(rows.ids.tolist(), (unsure[:, -2] - unsure[:, -1]).tolist(), strict=True))
    scores = [margin[item.image_id] for item in rest if item.source == "al"]
    assert scores == sorted(scores, reverse=True)
    assert all(item.reason.startswith("unsure: ") for item in rest if item.source == "al")


def test_what_will_be_a_check_is_seen_without_a_suggestion_however_it_comes_up(project, label, settle):
    trainer = Trainer(project)
    settle(trainer)
    label(12)
    settle(trainer)
    first = {image.id for image in sorted(project.store.images(), key=lambda image: image.shuffle)[:15]}
    for item in project.store.claim(project.store.annotator("you").id, 100):
        assert (item.suggestion is None) == (item.source == "audit" or item.image_id in first)


def test_the_default_starts_with_images_of_every_class_and_mixes_checks_in_from_the_first_on(
    project, label, settle, truth
):
    trainer = Trainer(project)
    settle(trainer)
    first = project.store.claim(project.store.annotator("me").id, 15)
    assert [item.source == "audit" for item in first[:11]] == [True, *4 * [False]] * 2 + [True]
    assert {truth(item.path) for item in first if item.source != "audit"} == {"blue", "green", "red"}
    in_order = [image.id for image in sorted(project.store.images(), key=lambda image: image.shuffle)]
    assert [item.image_id for item in first if item.source == "audit"] == in_order[:3]
    project.store.release(project.store.annotator("me").id)
    label(12)
    settle(trainer)
    rest = project.store.claim(project.store.annotator("you").id, 10)
    assert {item.reason for item in rest} == {"random check", "tells most about images in doubt"}


def test_what_was_flagged_makes_images_like_it_wait_and_what_was_skipped_does_not(
    project, label, settle, truth
):
    trainer = Trainer(project)
    settle(trainer)
    me = project.store.annotator("me").id
    class_of = {image.id: truth(image.path) for image in project.store.images()}
    reds = [image_id for image_id, name in class_of.items() if name == "red"]
    for image_id, name in class_of.items():
        if name != "red" and image_id % 4 == 0:
            project.store.label(me, Answer(image_id, name))
    settle(trainer)
    rows, answers = trainer.pool.rows(), known(project)
    fitted, aside = fit(rows, answers, about={}), frozenset(reds[:6])
    options = {"strategy": "auto", "audit": 0.0, "clusters": np.empty(0, np.int64), "seed": 0}

    def reds_among_twenty(**of_no_class):
        seen = replace(answers, **of_no_class)
        order = rank(rows, fitted, seen, checks(rows, seen), **options)
        return sum(class_of[ranked.image_id] == "red" for ranked in order[:20])

    assert reds_among_twenty(flagged=aside) < reds_among_twenty(skipped=aside)


def test_the_blend_knows_the_pool_and_the_linear_head_that_is_handed_over_is_measured(project, label, settle):
    trainer = Trainer(project)
    settle(trainer)
    label(20)
    settle(trainer)
    rows = trainer.pool.rows()
    with_graph, without = (fit(rows, known(project), about={}, graph=graph) for graph in (True, False))
    assert without.probs is without.linear_probs
    assert not np.allclose(with_graph.probs, with_graph.linear_probs)
    rest = np.setdiff1d(np.arange(len(rows.ids)), with_graph.labelled)
    shown = with_graph.bundle.predict(rows.vectors)
    np.testing.assert_allclose(with_graph.linear_probs[rest], shown[rest], atol=1e-5)
    assert (with_graph.probs.argmax(axis=1) == shown.argmax(axis=1))[rest].mean() > 0.9


def test_random_checks_are_the_first_images_of_an_order_fixed_at_the_start(project, label, settle):
    project.change(strategy="margin")  # which cannot start from nothing
    trainer = Trainer(project)
    settle(trainer)
    first = [item.image_id for item in label(8)]
    order = sorted(project.store.images(), key=lambda image: image.shuffle)
    assert first == [image.id for image in order[:8]]
    me = project.store.annotator("me").id
    project.store.label(
        me, Answer(order[9].id, "red")
    )  # the ninth is not asked yet, so the tenth is no check
    project.store.label(me, Answer(order[3].id, status="skipped"))
    settle(trainer)
    rows = trainer.pool.rows()
    found = checks(rows, known(project))
    assert rows.ids[found.rows].tolist() == [first[n] for n in (0, 1, 2, 4, 5, 6, 7)]
    assert rows.ids[found.open].tolist() == [first[3]]
    assert rows.ids[found.waiting[0]] == order[8].id


def test_held_out_probabilities_know_nothing_of_their_label():
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(200, 64)).astype(np.float32), rng.integers(0, 2, 200)
    guess = out_of_fold(points, labels, 2).argmax(axis=1)
    assert 0.35 < (guess == labels).mean() < 0.65  # heads that saw the labels would get them all


def test_held_out_probabilities_of_separable_classes_are_right():
    labels = np.arange(60) % 3
    points = np.eye(3, 8, dtype=np.float32)[labels] + np.random.default_rng(0).normal(0, 0.05, (60, 8))
    assert (out_of_fold(points.astype(np.float32), labels, 3).argmax(axis=1) == labels).all()


def test_a_failed_training_keeps_the_old_model_says_why_and_can_be_tried_again(
    project, label, settle, brittle
):
    backbone, crash = brittle
    project.change(backbone=backbone)
    trainer = Trainer(project)
    settle(trainer)
    label(10)
    settle(trainer)
    before = project.store.ranking()
    crash.touch()
    Image.new("RGB", (20, 20), "red").save(project.images / "new-red.png")
    project.scan()
    settle(trainer)
    said = project.store.setting("training")
    assert (said["state"], "the network caught fire" in said["error"]) == ("failed", True)
    assert project.store.ranking() == before
    crash.unlink()
    project.ask_for_training()
    settle(trainer)
    assert project.store.setting("training")["state"] == "idle"
    assert project.store.ranking() != before


def test_unreadable_and_new_photos_change_nothing_for_the_others(project, label, settle):
    trainer = Trainer(project)
    (project.images / "broken-red.png").write_bytes(b"no image")
    project.scan()
    settle(trainer)
    assert project.store.counts().flagged == 1
    label(10)
    settle(trainer)
    Image.new("RGB", (20, 20), (200, 30, 30)).save(project.images / "late-red.png")
    project.scan()
    settle(trainer)
    assert len(trainer.pool) == 61
    late = next(image for image in project.store.images() if image.path == "late-red.png")
    assert late.id in {one.image_id for one in project.store.upcoming(100)}


def test_a_photo_labelled_before_its_turn_is_learned_from(project, label, settle, monkeypatch):
    monkeypatch.setattr("vizsla.training.trainer._CHUNK", 8)
    trainer = Trainer(project)
    last = sorted(project.store.images(), key=lambda image: image.shuffle)[-6:]
    me = project.store.annotator("me").id
    for n, image in enumerate(last):
        project.store.label(me, Answer(image.id, "red" if n % 2 else "blue"))
    for _ in range(3):
        trainer.step()
    assert versions(project)[0] == (1, 6)
    assert trainer.pool.todo


@pytest.mark.parametrize("strategy", sorted(vizsla.strategies))
def test_every_strategy_can_rank_a_pool(project, label, settle, strategy):
    project.change(strategy=strategy)
    trainer = Trainer(project)
    settle(trainer)
    label(12)
    settle(trainer)
    assert project.store.setting("training") == {"state": "idle"}
    assert len(project.store.upcoming(100)) == 48


def test_a_model_comes_back_from_its_bytes_as_it_was(project, label, settle):
    trainer = Trainer(project)
    settle(trainer)
    label(20)
    settle(trainer)
    kept = Bundle.from_bytes(project.store.artifact(project.store.model().version))
    rows = trainer.pool.rows()
    fitted = fit(rows, known(project), about={})
    assert np.allclose(kept.predict(rows.vectors), fitted.bundle.predict(rows.vectors), atol=1e-6)
    assert kept.classes == ("blue", "green", "red")
    assert kept.about["labels"] == 20


def test_photos_that_cannot_be_opened_for_a_moment_are_not_given_up(project, label, settle):
    away = project.images.rename(project.images.with_name("away"))
    trainer = Trainer(project)
    settle(trainer)
    assert project.store.counts().flagged == 0
    away.rename(project.images)
    project.scan()
    settle(trainer)
    assert len(trainer.pool) == 60


def test_a_corrupt_file_of_an_odd_name_stops_nothing(project, label, settle):
    (project.images / "b\udce9po-red.png").write_bytes(b"no image")
    project.scan()
    trainer = Trainer(project)
    settle(trainer)
    assert project.store.counts().flagged == 1
    assert len(trainer.pool) == 60


def test_another_backbone_trains_anew_and_is_not_compared_with_the_old(project, label, settle, tmp_path):
    settle(Trainer(project))
    label(20)
    settle(Trainer(project))
    (tmp_path / "half.py").write_text(
        textwrap.dedent("""
        from torch import nn
        from vizsla.testing import ToyNetwork, toy_backbone

        class Half(ToyNetwork):
            def forward(self, pixels):
                return super().forward(pixels)[:, :10]

        def make():
            return Half(), toy_backbone()[1]
        """)
    )
    project.change(backbone=f"module:{tmp_path / 'half.py'}:make")
    settle(Trainer(project))
    assert versions(project) == [(1, 20), (2, 20)]
    assert project.store.setting("training") == {"state": "idle"}


def test_a_review_that_fails_leaves_the_published_model_as_it_is(project, label, settle, monkeypatch):
    settle(Trainer(project))
    label(10)
    trainer = Trainer(project)

    def out_of_memory(*_):
        raise MemoryError("no room for all those pairs")

    monkeypatch.setattr("vizsla.training.review.near_duplicates", out_of_memory)
    settle(trainer)
    assert [model.state for model in project.store.models()] == ["ready"]
    assert project.store.ranking().model_version == 1
    assert "no room" in project.store.setting("training")["error"]


def test_a_swap_of_class_names_is_news(project, label, settle):
    trainer = Trainer(project)
    settle(trainer)
    label(12)
    settle(trainer)
    for name, to in (("red", "x"), ("blue", "red"), ("x", "blue")):
        project.store.rename_class(name, to)
    settle(trainer)
    assert len(versions(project)) == 2
    kept = Bundle.from_bytes(project.store.artifact(2))
    assert kept.classes == ("red", "green", "blue")


def test_a_replaced_photo_of_the_same_number_moves_nobody_to_another_cluster(project, label, settle):
    trainer = Trainer(project)
    settle(trainer)
    label(12)
    settle(trainer)
    before = trainer.pool.rows()
    clusters = dict(zip(before.ids.tolist(), trainer._clustered(before).tolist(), strict=True))
    first = project.store.images()[0]
    Image.new("RGB", (20, 20), (200, 30, 30)).save(project.images / first.path)
    project.scan()
    settle(trainer)
    after = trainer.pool.rows()
    assert len(after.ids) == len(before.ids)
    assert len(versions(project)) == 2  # the new photo is ranked at once
    now = dict(zip(after.ids.tolist(), trainer._clustered(after).tolist(), strict=True))
    kept = [image for image in clusters if image in now]
    together = [(clusters[a] == clusters[b]) == (now[a] == now[b]) for a in kept for b in kept]
    assert np.mean(together) > 0.8


def pool_of(points, labelled):
    """Rows of these features, and labels of the first few."""
    from vizsla.functional.geometry import PrincipalAxes
    from vizsla.training.pool import Known, Rows

    n, d = points.shape
    axes = PrincipalAxes(np.zeros(d, np.float32), np.eye(d, dtype=np.float32))
    rows = Rows(np.arange(n), np.arange(n), points.astype(np.float16), points, axes, "")
    none = frozenset()
    return rows, Known(dict.fromkeys(range(labelled), 0), none, none, none, none, ("a",), (1,), 0, None)


def test_a_thousand_frames_of_one_camera_are_reviewed_in_little_memory(project):
    import tracemalloc

    from vizsla.training.review import near_duplicates

    rng, n = np.random.default_rng(0), 5000
    points = np.eye(32, dtype=np.float32)[rng.integers(0, 4, n)] + rng.normal(0, 0.02, (n, 32))
    rows, some = pool_of(points.astype(np.float32), 500)
    tracemalloc.start()
    assert len(near_duplicates(rows, some).pairs) == 300
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_the_image_nearest_to_each_labelled_one_is_that_of_a_plain_loop():
    from vizsla.training.review import near_duplicates

    points = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = near_duplicates(*pool_of(points, 280)).nearest
    assert found.keys() == set(range(280))
    for image in range(280):
        others = [float(points[image] @ points[other]) for other in range(300) if other != image]
        assert abs(found[image] - max(others)) < 1e-4


def test_training_on_request_works_from_four_labels_on(project, label, settle):
    me = project.store.annotator("me").id
    for image, name in zip(project.store.images(limit=4), ["red", "red", "blue", "blue"], strict=True):
        project.store.label(me, Answer(image.id, name))
    trainer = Trainer(project)
    request = project.ask_for_training()
    settle(trainer)
    assert versions(project) == [(1, 4)]
    assert project.store.setting("train_answered") == request
