"""The model card: how good the model is, what it was trained on, how to run it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from vizsla import monitor
from vizsla.models.backbones import Transform
from vizsla.report import LIGHT, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOT = "learning-curve.png"

SNIPPET = """\
import numpy as np, onnxruntime
from PIL import Image, ImageOps

net = onnxruntime.InferenceSession("model.onnx")
image = Image.open("photo.jpg")
image.draft(None, ({short}, {short}))  # a large JPEG is decoded at 1/2, 1/4 or 1/8, as Vizsla does
image = ImageOps.exif_transpose(image).convert("RGB")
image = image.resize([int({short} * side / min(image.size)) for side in image.size], Image.Resampling.{how})
left, top = (round((side - {size}) / 2) for side in image.size)
pixels = np.asarray(image.crop((left, top, left + {size}, top + {size}))).transpose(2, 0, 1)[None]
[probs] = net.run(["probabilities"], {{"pixels": pixels}})
"""


@dataclass(frozen=True, eq=False)
class Facts:
    """What a card says of a model."""

    name: str
    """Of the project."""
    classes: tuple[str, ...]
    accuracy: monitor.Accuracy | None
    """Measured on random checks, by models that had not seen the label."""
    curve: tuple[tuple[int, monitor.Accuracy | None], ...]
    """Labels and accuracy of each model of the project up to this one."""
    transform: Transform
    about: dict[str, Any]
    """Version, labels, backbone and so on."""

    @property
    def shown(self) -> tuple[tuple[int, monitor.Accuracy], ...]:
        """The part of the curve that rests on enough checks to be shown."""
        found = [(labels, one) for labels, one in self.curve if one is not None]
        return tuple((labels, one) for labels, one in found if one.checks >= monitor.CHECKS_TO_SHOW)


def snippet(transform: Transform) -> str:
    """Python that runs the ONNX file on one photo without Vizsla, with the same probabilities."""
    how = "BILINEAR" if transform.bilinear else "BICUBIC"
    return SNIPPET.format(short=transform.shorter_side, size=transform.size, how=how)


def card(facts: Facts) -> str:
    """The card in Markdown."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string((files("vizsla") / "card.md.j2").read_text(encoding="utf-8"))
    none_yet = monitor.Accuracy(0.0, 0.0, 1.0, 0)
    return template.render(
        name=facts.name,
        classes=[_cell(name) for name in facts.classes],
        about=facts.about,
        counts={_cell(name): count for name, count in facts.about.get("labels_by_class", {}).items()},
        accuracy=(facts.accuracy or none_yet).sentence,
        shown=facts.shown,
        plot=PLOT,
        tuning=facts.about.get("fine_tuning"),
        snippet=snippet(facts.transform),
        size=facts.transform.size,
    )


def _cell(text: str) -> str:
    """A class name as Markdown's tables and lists show it."""
    for mark in "\\|`*_[]<>#":
        text = text.replace(mark, f"\\{mark}")
    return text


def plot(facts: Facts) -> bytes:
    """The learning curve with its 95% intervals, as a PNG."""
    return render(_figure(facts), "png", dpi=120)


def _figure(facts: Facts) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    labels = [count for count, _ in facts.shown]
    found = [one for _, one in facts.shown]
    figure = Figure(figsize=(6.4, 3.6), facecolor=LIGHT.surface, layout="constrained")
    axes = figure.add_subplot()
    low, high = [one.low for one in found], [one.high for one in found]
    values = [one.value for one in found]
    if len(found) == 1:  # a band of one point has no width
        axes.vlines(labels, low, high, color=LIGHT.lines[0], alpha=0.5)
    axes.fill_between(labels, low, high, color=LIGHT.lines[0], alpha=0.15, linewidth=0)
    axes.plot(labels, values, color=LIGHT.lines[0], marker="o", markersize=4)
    axes.set_xlabel("labels")
    axes.set_ylabel("accuracy on random checks (95% interval)")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=LIGHT.faint, linewidth=0.8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure
