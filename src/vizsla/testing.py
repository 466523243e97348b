"""For tests, ours and those of plug-in authors: toy images, a toy backbone, the contract of a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vizsla.errors import NotEnoughImages
from vizsla.models.backbones import Transform
from vizsla.strategy.base import Strategy, View, strategies

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


def toy_view(n: int = 40, *, n_classes: int = 4, seed: int = 0, strategy: str = "toy") -> View:
    """A view of n images with ids 3, 10, 17, … and random probabilities without ties."""
    rng = np.random.default_rng(seed)
    probs = torch.from_numpy(rng.dirichlet(np.ones(n_classes), size=n))
    return View(np.arange(n, dtype=np.int64) * 7 + 3, probs, strategy)


def check_strategy(name: str) -> None:
    """Run the contract that every strategy must keep; raises AssertionError with what is broken.

    A batch has exactly n distinct ids of the view; the same generator state gives the same batch; n = all
    gives all; a view that is too small is an error that names both numbers.
    """
    rule = strategies[name]
    for n in (1, 7, 40):
        _check_batch(rule, toy_view(), n)
    try:
        rule.choose(toy_view(5), 6, np.random.default_rng(0))
    except NotEnoughImages as error:
        assert "6" in str(error) and "5" in str(error), f"the error does not name 6 and 5: {error}"
    else:
        raise AssertionError(f"{name} gave a batch of 6 from 5 images")


def _check_batch(rule: Strategy, view: View, n: int) -> None:
    first = rule.choose(view, n, np.random.default_rng(1))
    again = rule.choose(view, n, np.random.default_rng(1))
    assert len(first.ids) == len(first.scores) == n, f"{rule.name} gave {len(first.ids)} images, not {n}"
    assert len(set(first.ids.tolist())) == n, f"{rule.name} gave an image twice"
    assert set(first.ids.tolist()) <= set(view.ids.tolist()), f"{rule.name} gave ids from outside the view"
    assert first.ids.tolist() == again.ids.tolist(), f"{rule.name} is not repeatable"
