"""`vizsla compare` on an engine: the same curves, whoever runs them."""

from __future__ import annotations

import vizsla
from vizsla.curves import LearningCurve
from vizsla.testing import TOY_BACKBONE, toy_images

SETTINGS = {
    "strategies": ("margin", "auto"),
    "seeds": 2,
    "random_runs": 2,
    "initial": 4,
    "batch": 4,
    "budget": 16,
    "backbone": TOY_BACKBONE,
}


def points(curves: tuple[LearningCurve, ...]) -> list[object]:
    return [
        (one.strategy, one.seed, [{k: v for k, v in p.items() if "seconds" not in k} for p in one.points])
        for one in curves
    ]


def test_curves_are_those_of_one_run_after_the_other_and_finished_runs_are_kept(ray_engine, tmp_path):
    images = toy_images(tmp_path / "toys", per_class=20)
    want = vizsla.compare(images, **SETTINGS)
    told = []
    given = SETTINGS | {"out": tmp_path / "out", "engine": ray_engine}
    got = vizsla.compare(images, **given, on_round=lambda *step: told.append(step))
    assert points(got.curves) == points(want.curves)
    assert told[-1][0] == told[-1][1]
    assert told[-1][2] == "8 of 8 runs"
    (tmp_path / "out" / "runs" / "margin-1.json").unlink()
    told.clear()
    again = vizsla.compare(images, **given, on_round=lambda *step: told.append(step))
    assert points(again.curves) == points(want.curves)
    assert [step[2] for step in told] == ["8 of 8 runs"]
