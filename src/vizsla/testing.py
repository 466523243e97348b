"""For tests, ours and those of plug-in authors: toy images, a toy backbone, the contract of a strategy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vizsla.errors import BadBatch, NotEnoughImages
from vizsla.models.backbones import Transform
from vizsla.strategy.base import PARTS, Head, Pool, Strategy, View, strategies
from vizsla.strategy.draws import LinearDraws, dropout

TOY_BACKBONE = f"module:{__file__}:toy_backbone"
"""Name to give wherever a backbone is asked for; embeds thousands of images a second."""


def toy_images(
    folder: Path,
    *,
    classes: Sequence[str] = ("blue", "green", "red"),
    per_class: int = 12,
    side: int = 16,
    seed: int = 0,
) -> Path:
    """Write class folders of small noisy one-colour PNGs, one hue per class, and return the folder."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        angle = 2 * np.pi * number / len(classes)
        colour = 128 + 70 * np.cos(angle + 2 * np.pi * np.arange(3) / 3)
        for image in range(per_class):
            pixels = colour + rng.normal(0, 40, (side, side, 3)) + rng.normal(0, 25, 3)
            Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).save(folder / name / f"{image:03d}.png")
    return folder


class ToyNetwork(nn.Module):
    """Mean colour of each cell of a 2 × 2 grid, and a little more: 24 features, no training needed."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.randn(12, 24, generator=generator) / 12**0.5)

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, s, s) → (n, 24)."""
        cells = nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1)
        return cells @ self.mix


def toy_backbone() -> tuple[nn.Module, Transform]:
    """What a `module:FILE.py:FUNCTION` backbone returns."""
    return ToyNetwork(), Transform(32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def toy_view(
    n: int = 40,
    *,
    n_classes: int = 4,
    labelled: int = 12,
    seed: int = 0,
    strategy: str = "toy",
    dtype: torch.dtype = torch.float32,
) -> View:
    """A view of n images with ids 3, 10, 17, … and every part that a strategy can ask for, all without ties.

    Candidates, labelled images and images that are neither lie in mixed order in the rows of `embeddings`, and in
    another order in those of `head`. The head gave the probabilities; draws and committee are heads like it.

    Args: dtype: of embeddings and probabilities.
    """
    rng = np.random.default_rng(seed)
    total, width = n + labelled + 5, 6
    classes = rng.permutation(np.arange(labelled) % n_classes)
    centres = rng.normal(size=(n_classes, width))
    rows = rng.normal(size=(total, width))
    order, other_order = rng.permutation(total), rng.permutation(total)
    rows[order[n : n + labelled]] += centres[classes]
    features = torch.from_numpy(rows).to(dtype)
    turned = np.empty_like(rows)
    turned[other_order[: n + labelled]] = rows[order[: n + labelled]]
    head_pool = Pool(torch.from_numpy(turned).float(), other_order[:n], other_order[n : n + labelled])
    head = Head(
        head_pool, torch.from_numpy(centres).float(), torch.from_numpy(rng.normal(size=n_classes)).float()
    )
    members = rng.normal(centres, 0.5, (5, n_classes, width))
    view = View(
        ids=np.arange(n, dtype=np.int64) * 7 + 3,
        strategy=strategy,
        embeddings=Pool(features, order[:n], order[n : n + labelled]),
        labels=classes,
        classes=n_classes,
        draws=dropout(head, rng, k=6),
        committee=LinearDraws(head_pool, torch.from_numpy(members).float(), head.bias.expand(5, -1)),
        familiar=np.linspace(1, 0, n),
    )
    return _with_head(view, head, dtype)


def _with_head(view: View, head: Head, dtype: torch.dtype) -> View:
    """The view with this head and its probabilities."""

    def predict(places: np.ndarray) -> Tensor:
        logits = (
            head.pool.rows[torch.from_numpy(places)].double() @ head.weight.double().T + head.bias.double()
        )
        return logits.softmax(dim=1).to(dtype)

    known, labelled = predict(head.pool.candidates), predict(head.pool.labelled)
    return replace(view, head=head, probs=known, labelled_probs=labelled)


def check_strategy(strategy: str | Strategy) -> None:
    """Run the contract that every strategy must keep; raises AssertionError with what is broken.

    A batch has exactly n distinct ids of the view; the same generator state gives the same batch, whatever the
    images are numbered; n = all gives all; the view is left as it was, and of its embeddings only the rows of
    candidates and labelled images count; a view that is too small is an error that names both numbers. That holds
    on odd pools too: all images alike, all zero, of two kinds only, with columns that do not vary, far from the origin,
    nothing labelled, one class labelled, more classes than labels, a class never seen, a model that is certain of all,
    half and double precision. What the strategy only wants is there, and then is not.

    Args: strategy: its name in `vizsla.strategies`, or the strategy itself.
    """
    rule = strategies[strategy] if isinstance(strategy, str) else strategy
    pools = {pool: _needed(view, rule) for pool, view in _pools().items()}
    if rule.wants:
        pools["without what it wants"] = _without(pools["an ordinary pool"], rule.wants)
        pools["nothing labelled, nor what it wants"] = _without(pools["nothing labelled"], rule.wants)
    for pool, view in pools.items():
        for n in sorted({1, min(7, len(view.ids)), len(view.ids)}):
            try:
                _check_batch(rule, view, n)
            except AssertionError as broken:
                raise AssertionError(
                    f"strategy {rule.name!r}, {n} of {len(view.ids)} images, {pool}: {broken}"
                ) from None
            except Exception as error:
                error.add_note(f"strategy {rule.name!r} failed on {n} of {len(view.ids)} images, {pool}")
                raise
    _check_numbering(rule)
    _check_other_rows(rule)
    _check_shortage(rule)


def _pools() -> dict[str, View]:
    """Pools, ordinary and odd, by what is odd of them."""
    view = toy_view()
    pool, head, probs = view.embeddings, view.head, view.probs
    assert pool is not None and head is not None and probs is not None and view.labels is not None
    certain = torch.eye(4)[probs.argmax(dim=1)]
    some_zero = pool.rows.clone()
    some_zero[::3] = 0
    one_column, constant = torch.zeros_like(pool.rows), torch.full_like(pool.rows, 7)
    one_column[:, 0], constant[:, :2] = pool.rows[:, 0], pool.rows[:, :2]
    far = replace(pool, rows=pool.rows + 1000)
    unseen = head.weight.clone(), head.bias.clone()
    unseen[0][-1], unseen[1][-1] = 0, -torch.inf
    without = Head(head.pool, *unseen)
    known = len(view.labels)
    return {
        "an ordinary pool": view,
        "a single candidate": toy_view(1),
        "two classes": toy_view(n_classes=2),
        "float16": toy_view(dtype=torch.float16),
        "float64": toy_view(dtype=torch.float64),
        "nothing labelled": toy_view(labelled=0),
        "one image labelled": toy_view(labelled=1),
        "more classes than labels": toy_view(n_classes=12, labelled=5),
        "one class labelled": replace(view, labels=np.zeros(known, np.int64)),
        "neither out-of-fold probabilities nor the number of classes": replace(
            view, labelled_probs=None, classes=None
        ),
        "all images alike": _of_rows(view, pool.rows[:1].expand(len(pool.rows), -1).contiguous()),
        "all embeddings zero": _of_rows(view, torch.zeros_like(pool.rows)),
        "some embeddings zero": _of_rows(view, some_zero),
        "pairs of equal images": _of_rows(view, pool.rows[torch.arange(len(pool.rows)) // 2]),
        "images of two kinds": _of_rows(view, pool.rows[torch.arange(len(pool.rows)) % 2]),
        "a single column that varies": _of_rows(view, one_column),
        "columns that do not vary": _of_rows(view, constant),
        "embeddings far from the origin": replace(view, embeddings=far),
        "probabilities of 0 and 1": replace(view, probs=certain, labelled_probs=torch.eye(4)[view.labels]),
        "the same class certain for all": replace(view, probs=torch.eye(4)[:1].expand(40, -1).contiguous()),
        "all probabilities equal": replace(view, probs=torch.full((40, 4), 0.25)),
        "a class never seen": replace(
            _with_head(view, without, torch.float32),
            labels=view.labels % 3,
            draws=dropout(without, np.random.default_rng(0), k=6),
        ),
    }


def _of_rows(view: View, rows: Tensor) -> View:
    """The same images with other features, and what the head makes of them."""
    assert view.embeddings is not None and view.head is not None
    pool = replace(view.embeddings, rows=rows)
    head = replace(view.head, pool=pool)
    members = view.committee
    assert isinstance(members, LinearDraws)
    changed = replace(
        view,
        embeddings=pool,
        draws=dropout(head, np.random.default_rng(0), k=6),
        committee=replace(members, pool=pool),
    )
    return _with_head(changed, head, torch.float32)


def _needed(view: View, rule: Strategy) -> View:
    """Only the parts that the strategy has declared."""
    missing = set(PARTS) - rule.reads
    if "labels" not in rule.needs:
        missing.add("labelled_probs")
    return _without(replace(view, strategy=rule.name), missing)


def _without(view: View, parts: Iterable[str]) -> View:
    nothing: dict[str, Any] = dict.fromkeys(parts)
    return replace(view, **nothing)


def _check_batch(rule: Strategy, view: View, n: int) -> None:
    before = _contents(view)
    try:
        first = rule.choose(view, n, np.random.default_rng(1))
        again = rule.choose(view, n, np.random.default_rng(1))
    except BadBatch as error:
        raise AssertionError(str(error).removeprefix(f"strategy {rule.name!r} ")) from None
    assert first.ids.tolist() == again.ids.tolist(), (
        "is not repeatable: all that is random must come from the generator it is given"
    )
    assert not np.isnan(first.scores).any(), "gave scores that are NaN"
    same = all(torch.equal(old, new) for old, new in zip(before, _contents(view), strict=True))
    assert same, "changed the arrays of the view"


def _contents(view: View) -> list[Tensor]:
    """Copies of the arrays that a strategy could write to."""
    rows = view.embeddings.rows if view.embeddings else None
    weight = view.head.weight if view.head else None
    places = view.embeddings.candidates if view.embeddings else None
    tensors = [array for array in (view.probs, view.labelled_probs, rows, weight) if array is not None]
    arrays = view.ids, view.labels, view.familiar, places
    numbers = [torch.tensor(array) for array in arrays if array is not None]
    return [array.clone() for array in tensors] + numbers


def _check_numbering(rule: Strategy) -> None:
    """Other ids for the same images give the same images."""
    view = _needed(toy_view(), rule)
    plain = rule.choose(view, 7, np.random.default_rng(2)).ids
    moved = rule.choose(replace(view, ids=view.ids * 3 + 1000), 7, np.random.default_rng(2)).ids
    assert moved.tolist() == (plain * 3 + 1000).tolist(), (
        f"strategy {rule.name!r} chose other images when their ids were others: ids used as positions?"
    )


def _check_other_rows(rule: Strategy) -> None:
    """Rows that belong to no image of the view are as if they were not there."""
    view = _needed(toy_view(), rule)
    changed = view
    for part in ("embeddings", "head"):
        thing = getattr(view, part)
        if thing is None:
            continue
        pool = thing.pool if part == "head" else thing
        rows = pool.rows.clone()
        others = np.setdiff1d(np.arange(len(rows)), np.concatenate([pool.candidates, pool.labelled]))
        rows[torch.from_numpy(others)] = 5 - 3 * rows[torch.from_numpy(others)]
        pool = replace(pool, rows=rows)
        changed = replace(changed, **{part: replace(thing, pool=pool) if part == "head" else pool})
    plain, other = (rule.choose(one, 7, np.random.default_rng(3)).ids.tolist() for one in (view, changed))
    assert plain == other, (
        f"strategy {rule.name!r} looked at embeddings of images that are neither candidates nor labelled"
    )


def _check_shortage(rule: Strategy) -> None:
    try:
        rule.choose(_needed(toy_view(5), rule), 6, np.random.default_rng(0))
    except NotEnoughImages as error:
        assert "6" in str(error) and "5" in str(error), f"the error does not name 6 and 5: {error}"
    else:
        raise AssertionError(f"strategy {rule.name!r} gave a batch of 6 from 5 images")
