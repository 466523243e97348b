"""What happens behind the person who labels."""

import textwrap

import numpy as np
import pytest
from PIL import Image

import vizsla
from vizsla.store import Answer
from vizsla.training.bundle import Bundle
from vizsla.training.fit import checks, fit, out_of_fold
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


def test_random_checks_are_the_first_images_of_an_order_fixed_at_the_start(project, label, settle):
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
    project, label, settle, tmp_path
):
    crash = tmp_path / "crash"
    (tmp_path / "brittle.py").write_text(
        textwrap.dedent(f"""
        from pathlib import Path
        from vizsla.testing import ToyNetwork, toy_backbone

        class Brittle(ToyNetwork):
            def forward(self, pixels):
                if Path({str(crash)!r}).exists():
                    raise RuntimeError("the network caught fire")
                return super().forward(pixels)

        def make():
            return Brittle(), toy_backbone()[1]
        """)
    )
    project.change(backbone=f"module:{tmp_path / 'brittle.py'}:make")
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
