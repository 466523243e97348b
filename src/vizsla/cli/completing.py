"""What a shell offers at the Tab key: names for options and arguments, without loading what they name.

A Tab must be answered within a second, and to ask the registries would take several. So the names are written
down here; a test keeps them true. Those of installed plug-ins are read from their packages' entry points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points

import click
from click.shell_completion import CompletionItem

STRATEGIES = [
    "alfamix", "auto", "badge", "bait", "bald", "batchbald", "class_balanced_bald",
    "class_balanced_entropy", "class_balanced_least_confidence", "class_balanced_margin", "cluster_margin",
    "coreset", "density_weighted", "dropquery", "entropy", "expected_gradient", "kmeans",
    "least_confidence", "margin", "maxherding", "mean_std", "power_bald", "power_entropy",
    "power_least_confidence", "power_margin", "power_ratio", "probcover", "query_by_committee",
    "query_by_committee_kl", "random", "ratio", "typiclust", "uherding", "variation_ratio",
]  # fmt: skip
BACKBONES = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
FAMILIES = ["module:", "timm:", "torchvision:"]
HEADS = ["blend", "knn", "lda", "logistic"]
FORMATS = ["coco", "csv", "cvat", "fiftyone", "folders", "imagefolder", "jsonl", "label-studio", "parquet"]
MODELS = {
    "model": "the trained model: a folder with weights, facts and a model card, or one .safetensors file",
    "onnx": "the trained model, from pixels to probabilities, for ONNX Runtime",
    "torch": "the trained model, from pixels to probabilities, for PyTorch (.pt2)",
}
"""What a trained model is exported as."""
STOP_RULES = ["epochs", "loss", "test", "validation"]

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def one_of(names: Iterable[str], plugins: str | None = None) -> Complete:
    """Completes one name. Args: plugins: what they are called in the entry points' group, such as `strategies`."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in _known(names, plugins) if name.startswith(incomplete)]

    return complete


def some_of(names: Iterable[str], plugins: str | None = None) -> Complete:
    """Completes the last of several names with commas between, leaving out those that are there already."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, begun = incomplete.rpartition(",")
        given = before.split(",")
        return [
            CompletionItem(f"{before}{comma}{name}")
            for name in _known(names, plugins)
            if name.startswith(begun) and name not in given
        ]

    return complete


def folder(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Has the shell complete a folder by itself."""
    return [CompletionItem(incomplete, type="dir")]


def _known(names: Iterable[str], plugins: str | None) -> list[str]:
    more = entry_points(group=f"vizsla.{plugins}").names if plugins else set()
    return sorted({*names, *more})


strategy = one_of(STRATEGIES, "strategies")
strategies = some_of(STRATEGIES, "strategies")
backbone = one_of([*BACKBONES, *FAMILIES], "backbones")
head = one_of(HEADS, "heads")
stop_rule = one_of(STOP_RULES)
import_format = one_of(FORMATS, "importers")
export_format = one_of([*FORMATS, *MODELS], "formats")
