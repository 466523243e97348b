"""What other people's tools read and write, for the tests; run by the Python of `.venv-formats`.

One JSON array per line in, `[job, argument, …]`; one JSON value per line out. The images that the tests make hold
text, and every image is told by that text, whatever it is called by now.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

JOBS: dict[str, Callable[..., Any]] = {}


def job(function: Callable[..., Any]) -> Callable[..., Any]:
    JOBS[function.__name__] = function
    return function


def text(path: str) -> str:
    return Path(path).read_bytes().decode()


# Hugging Face datasets


@job
def huggingface(folder: str) -> dict[str, Any]:
    """Split → text of each image → its label, as `load_dataset("imagefolder", …)` reads them."""
    from datasets import Image, load_dataset

    read = load_dataset("imagefolder", data_dir=folder).cast_column("image", Image(decode=False))
    return {
        split: {text(row["image"]["path"]): named(rows, row) for row in rows} for split, rows in read.items()
    }


def named(rows: Any, row: dict[str, Any]) -> Any:
    label, feature = row.get("label"), rows.features.get("label")
    return feature.int2str(label) if hasattr(feature, "int2str") else label


@job
def huggingface_parquet(file: str) -> list[dict[str, Any]]:
    """The rows of a Parquet file."""
    from datasets import load_dataset

    return [
        {name: str(cell) if hasattr(cell, "isoformat") else cell for name, cell in row.items()}
        for row in load_dataset("parquet", data_files=file, split="train")
    ]


@job
def huggingface_write(files: dict[str, int], classes: list[str], out: str) -> None:
    """A data set with the images inside and classes as numbers, as Parquet; −1 is no label."""
    from datasets import ClassLabel, Dataset, Features, Image

    rows = {
        "image": [{"path": Path(path).name, "bytes": Path(path).read_bytes()} for path in files],
        "label": list(files.values()),
    }
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=classes)})
    Dataset.from_dict(rows, features=features).to_parquet(out)


# FiftyOne: its importers and exporters, which need no database


@job
def fiftyone_dataset(folder: str | None, data: str | None, labels: str | None) -> dict[str, Any]:
    """Text of each image → its label and attributes, of a FiftyOneImageClassificationDataset."""
    from fiftyone.utils.data.importers import FiftyOneImageClassificationDatasetImporter as Importer

    return {
        text(path): None if label is None else [label.label, dict(label.iter_attributes())]
        for path, label in samples(Importer(folder, data_path=data, labels_path=labels))
    }


@job
def fiftyone_tree(folder: str) -> dict[str, Any]:
    """Text of each image → its label, of an ImageClassificationDirectoryTree."""
    from fiftyone.utils.data.importers import ImageClassificationDirectoryTreeImporter as Importer

    return {text(path): label and label.label for path, label in samples(Importer(folder))}


def samples(importer: Any) -> list[tuple[str, Any]]:
    with importer:
        return [(path, label) for path, _, label in importer]


@job
def fiftyone_write(
    files: dict[str, str | None], root: str, out: str, kind: str, classes: list[str] | None
) -> None:
    """Images with labels as FiftyOne lays them out."""
    from fiftyone.core.labels import Classification
    from fiftyone.utils.data import exporters

    if kind == "tree":
        exporter = exporters.ImageClassificationDirectoryTreeExporter(out, rel_dir=root)
    else:
        exporter = exporters.FiftyOneImageClassificationDatasetExporter(
            out, rel_dir=root, classes=classes, include_confidence=None, include_attributes=None
        )
    with exporter:
        for path, label in files.items():
            exporter.export_sample(
                path, None if label is None else Classification(label=label, uniqueness=0.5)
            )


# Datumaro, whose ImageNet is CVAT's


@job
def datumaro(folder: str, format: str, images: str | None = None) -> dict[str, Any]:
    """Subset → text of each image → its label."""
    from datumaro.components.dataset import Dataset

    read = Dataset.import_from(folder, format, **({"image_dir": images} if images else {}))
    names = [one.name for one in read.categories()[next(iter(read.categories()))]]
    found: dict[str, Any] = {}
    for item in read:
        labels = [names[one.label] for one in item.annotations]
        assert len(labels) < 2, (item.id, labels)
        found.setdefault(item.subset, {})[text(item.media.path)] = labels[0] if labels else None
    return found


@job
def datumaro_write(files: dict[str, list[Any]], classes: list[str], out: str, format: str) -> None:
    """Images, path → [id, subset, label], in the given format."""
    from datumaro.components.annotation import Label
    from datumaro.components.dataset import Dataset
    from datumaro.components.dataset_base import DatasetItem
    from datumaro.components.media import Image

    items = [
        DatasetItem(
            id=name,
            subset=subset,
            media=Image.from_file(path=path),
            annotations=[] if label is None else [Label(classes.index(label))],
        )
        for path, (name, subset, label) in files.items()
    ]
    Dataset.from_iterable(items, categories=classes, media_type=Image).export(out, format, save_media=True)


# the SDK of Label Studio, which has its checks and its converters


@job
def label_studio(file: str, config: str, out: str) -> list[list[str]]:
    """Which choices it sees in annotations and predictions; writes JSON_MIN and CSV into `out`."""
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.label_interface import LabelInterface

    tasks = json.loads(Path(file).read_text("utf-8"))
    interface = LabelInterface(config)
    interface.validate()
    seen = []
    for task in tasks:
        assert interface.validate_task({"data": task["data"]}), (
            task
        )  # with annotations it raises a TypeError of its own
        for annotation in task["annotations"]:
            assert annotation["was_cancelled"] or interface.validate_annotation(annotation), annotation
        for prediction in task["predictions"]:
            assert not interface.validate_prediction(prediction, return_errors=True), prediction
        regions = [one["result"] for one in (*task["annotations"], *task["predictions"])]
        seen.append([name for region in regions for one in region for name in one["value"]["choices"]])
    converter = Converter(config, out, download_resources=False)
    converter.convert_to_json_min(file, str(Path(out) / "min"), is_dir=False)
    converter.convert_to_csv(file, str(Path(out) / "csv"), is_dir=False, sep=",", header=True)
    return seen


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the tools print is no answer
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        answers.write(json.dumps(JOBS[name](*arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
