"""Fine-tuning at the end, beside the head on the frozen network."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vizsla
from vizsla.handover import hand_over
from vizsla.models.finetune import FineTunedModel
from vizsla.project import Project
from vizsla.store import Answer
from vizsla.training.kept import fine_tuned, model_of, place_of
from vizsla.training.now import train_now
from vizsla.training.tuning import Recipe, Verdict, fine_tune

QUICK = Recipe(folds=2, epochs=25, learning_rate=0.5, augment=False)

NETWORK = """
    import torch
    from torch import nn
    from vizsla import Transform

    class Blind(nn.Module):
        '''Sees one number: the brightness of the image's quarters, each with a weight that training can change.'''

        def __init__(self, gains):
            super().__init__()
            self.gains = nn.Parameter(torch.tensor(gains))

        def forward(self, pixels):
            quarters = nn.functional.adaptive_avg_pool2d(pixels.mean(1, keepdim=True), 2).flatten(1)
            seen = (quarters * self.gains).sum(dim=1, keepdim=True)
            return torch.cat([seen, torch.ones_like(seen)], dim=1)

    def blind():
        # the lower right corner says nothing
        return Blind([0.0, 0.0, 0.0, 1.0]), Transform(32, crop=1.0, mean=(0.5,) * 3, std=(0.2,) * 3)

    def seeing():
        return Blind([1.0, 0.0, 0.0, 0.0]), Transform(32, crop=1.0, mean=(0.5,) * 3, std=(0.2,) * 3)
"""


@pytest.fixture(scope="session")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty noisy grey images, half of them bright in the upper left corner."""
    folder, rng = tmp_path_factory.mktemp("corners"), np.random.default_rng(0)
    for number in range(80):
        pixels = rng.normal(128, 30, (32, 32))
        pixels[:16, :16] += 60 if number % 2 else -60
        name = "bright" if number % 2 else "dark"
        Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).save(folder / f"{number:02}-{name}.png")
    return folder


@pytest.fixture
def network(tmp_path: Path) -> Path:
    file = tmp_path / "net.py"
    file.write_text(textwrap.dedent(NETWORK))
    return file


def open_project(home: Path, images: Path, backbone: str, labels: int = 60) -> Project:
    project = Project.open(home, images)
    project.change(backbone=backbone)
    project.add_classes(["bright", "dark", "unseen"])
    project.scan()
    me = project.store.annotator("me").id
    for item in project.store.claim(me, labels):
        name = item.path.rpartition("-")[2].partition(".")[0]
        project.store.label(me, Answer(item.image_id, name, lease_id=item.lease_id))
    return project


@pytest.fixture
def blind(tmp_path: Path, corners: Path, network: Path) -> Iterator[Project]:
    """A project whose frozen network tells nothing; training it finds the corner."""
    with open_project(tmp_path / "blind", corners, f"module:{network}:blind") as project:
        train_now(project)
        yield project


@pytest.fixture
def seeing(tmp_path: Path, corners: Path, network: Path) -> Iterator[Project]:
    """A project whose frozen network tells everything."""
    with open_project(tmp_path / "seeing", corners, f"module:{network}:seeing") as project:
        train_now(project)
        yield project


def names_of(model, folder: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """What the model says of all images, and what they are."""
    files = sorted(folder.iterdir())
    probs = model.predict(files).probs
    return [model.classes[n] for n in probs.argmax(axis=1)], probs, [file.stem[3:] for file in files]


@dataclass
class Tuned:
    """A blind project that was fine-tuned, and what its networks were shown and asked meanwhile."""

    home: Path
    verdict: Verdict
    shown: list[tuple[FineTunedModel, set[int]]]
    asked: list[tuple[FineTunedModel, set[int]]]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, corners: Path) -> Tuned:
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "net.py").write_text(textwrap.dedent(NETWORK))
    fit, predict = FineTunedModel.fit, FineTunedModel.predict
    shown, asked, done = [], [], set()

    def spied_fit(self, inputs, ids, labels, **more):
        shown.append((self, set(ids.tolist())))
        told = fit(self, inputs, ids, labels, **more)
        done.add(self)
        return told

    def spied_predict(self, inputs, ids):
        if self in done:  # before, it looks at its own validation images
            asked.append((self, set(ids.tolist())))
        return predict(self, inputs, ids)

    with (
        open_project(folder / "blind", corners, f"module:{folder / 'net.py'}:blind") as project,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(FineTunedModel, "fit", spied_fit)
        patch.setattr(FineTunedModel, "predict", spied_predict)
        train_now(project)
        return Tuned(folder / "blind", fine_tune(project, QUICK), shown, asked)


def test_a_network_that_is_better_than_the_head_becomes_the_projects_model(tuned, corners):
    verdict = tuned.verdict
    assert verdict.kept == "fine-tuned"
    assert verdict.frozen < 0.75  # a coin gets a half
    assert verdict.fine_tuned > 0.95
    assert verdict.difference.images == 60
    assert verdict.difference.value == pytest.approx(verdict.fine_tuned - verdict.frozen)
    assert verdict.difference.low > 0
    with Project.open(tuned.home) as project:
        model, head = model_of(project), model_of(project, head=True)
    said, probs, truth = names_of(model, corners)
    assert (
        np.mean([a == b for a, b in zip(said, truth, strict=True)]) > 0.95
    )  # also of images without a label
    assert (probs[:, 2] == 0).all()  # a class without labels is never said
    told = model.about
    assert (told["head"], told["labels"], told["fine_tuning"]["images"]) == ("fine-tuned", 60, 60)
    assert model.backbone.key != head.backbone.key


def test_no_network_is_asked_about_an_image_that_it_was_shown(tuned):
    seen = dict(tuned.shown)
    assert len(tuned.asked) == 2  # one for each fold
    assert sorted(set.union(*(ids for _, ids in tuned.asked))) == list(range(60))
    assert all(not (seen[model] & ids) for model, ids in tuned.asked)
    assert max(map(len, seen.values())) == 60  # the network that is kept learns from all


def test_a_head_that_is_as_good_stays_and_a_network_kept_before_is_forgotten(seeing, corners):
    place_of(seeing).write_bytes(b"an older one")
    verdict = fine_tune(seeing, QUICK)
    assert verdict.kept == "frozen"
    assert verdict.frozen > 0.95
    assert fine_tuned(seeing) is None
    assert model_of(seeing).about["head"] == "blend"


def test_interrupted_the_old_model_stays_and_the_next_call_does_only_what_is_left(blind, tmp_path):
    def stop(done: int, _: int, what: str) -> None:
        if "fold 2" in what and "loss" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(blind, QUICK, stop)
    assert model_of(blind).about["head"] == "blend"
    texts = []
    verdict = fine_tune(blind, QUICK, lambda done, total, what: texts.append((done, total, what)))
    assert not any("fold 1" in what for _, _, what in texts)
    assert any("fold 2" in what for _, _, what in texts)
    assert texts[-1][0] == texts[-1][1]  # the bar ends full
    again = fine_tune(blind, QUICK)  # from the beginning
    assert again.difference == verdict.difference
    assert (again.fine_tuned, again.epochs) == (verdict.fine_tuned, verdict.epochs)
    assert sorted(file.name for file in (tmp_path / "blind").iterdir() if "tun" in file.name) == [
        "fine-tuned.safetensors"
    ]


def test_another_label_begins_anew(blind):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    begun = []
    with pytest.raises(KeyboardInterrupt):
        fine_tune(blind, QUICK, lambda *step: stop() if "fold 2" in step[2] else None)
    image = blind.store.labels()[0].image_id
    blind.store.label(blind.store.annotator("me").id, Answer(image, "unseen"))
    fine_tune(blind, QUICK, lambda *step: begun.append(step[2]))
    assert any("fold 1" in what for what in begun)


def test_every_form_of_a_fine_tuned_network_says_the_same(tuned, corners, tmp_path):
    with Project.open(tuned.home) as project:
        _, expected, _ = names_of(model_of(project), corners)
        for form, name in (("model", "m.safetensors"), ("model", "folder"), ("onnx", "m.onnx")):
            hand_over(project, form, tmp_path / name)
            _, probs, _ = names_of(vizsla.load_model(tmp_path / name), corners)
            assert np.abs(probs - expected).max() < 1e-4, name
    card = (tmp_path / "folder" / "README.md").read_text("utf-8")
    assert f"| fine-tuned | {100 * tuned.verdict.fine_tuned:.1f}% | 60 |" in card
    assert "60 labelled images, each held out once from both" in card


def test_labels_that_came_later_are_spoken_of(tuned, corners, tmp_path, caplog):
    shutil.copytree(tuned.home, tmp_path / "copy")
    with Project.open(tmp_path / "copy", corners) as project:
        me = project.store.annotator("me").id
        for item in project.store.claim(me, 5):
            project.store.label(me, Answer(item.image_id, "dark", lease_id=item.lease_id))
        model_of(project)
    assert "knows 60 labels; there are 65 now" in caplog.text


def test_the_command_prints_both_and_what_was_kept(blind, vizsla_here):
    done = vizsla_here(
        *("train", "--project", blind.address, "--fine-tune", "--folds", "2", "--epochs", "25"),
        *("--learning-rate", "0.5", "--no-augment"),
    )
    assert done.returncode == 0, done.stderr
    for said in (
        "fine-tuned network",
        "head on the frozen network",
        "difference",
        "Kept the fine-tuned network",
    ):
        assert said in done.stdout
    assert "60 labelled images, each held out once from both" in done.stdout


MISTAKES = {
    "few labels": (["--fine-tune"], "Label at least 20 images"),
    "one fold": (["--fine-tune", "--folds", "1"], "--folds must be at least 2"),
    "no epoch": (["--fine-tune", "--epochs", "0"], "at least 1"),
    "no rate": (["--fine-tune", "--learning-rate", "0"], "above 0"),
    "not asked for": (["--folds", "5"], "--folds goes with --fine-tune"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_mend(mistake, corners, network, tmp_path, vizsla_here):
    options, said = MISTAKES[mistake]
    with open_project(tmp_path / "few", corners, f"module:{network}:seeing", labels=12):
        pass
    done = vizsla_here("train", "--project", tmp_path / "few", *options)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert done.stderr.strip().count("\n") == 0 or "embedding" in done.stderr
