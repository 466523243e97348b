"""Data sets of other libraries, written once as folders of images: torchvision:NAME and hf:NAME."""

from __future__ import annotations

import inspect
import io
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from vizsla.caching import cache_dir, draft_of, explain_write_errors
from vizsla.data.folders import number_classes
from vizsla.errors import BadOption, NoImages, UnknownName
from vizsla.types import Progress

KINDS = ("torchvision:", "hf:")

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tiff"}

Item = tuple[bytes, str, str | None]
"""An image file's content, its suffix, and its class folder; None: it has no class."""


def settled(given: str | Path, progress: Progress | None = None) -> str | Path:
    """What was given; for a data set of another library the folder that holds it, written the first time.

    `torchvision:NAME` and `hf:NAME` mean the part for training, with `:PART` behind it that part, such as `:test`.

    Raises: UnknownName, BadOption or NoImages with the mend.
    """
    text = str(given)
    if isinstance(given, str) and text.startswith(KINDS):
        kind, _, name = text.partition(":")
        name, part = _part(name)
        return {"torchvision": _torchvision, "hf": _hugging_face}[kind](name, part, progress)
    return given


def _part(name: str) -> tuple[str, str]:
    """Name and part.

    >>> _part("CIFAR10"), _part("org/name:test"), _part("C:/data")
    (('CIFAR10', 'train'), ('org/name', 'test'), ('C:/data', 'train'))
    """
    before, colon, after = name.rpartition(":")
    return (before, after) if colon and re.fullmatch(r"\w[\w.-]+", after) else (name, "train")


def _torchvision(name: str, part: str, progress: Progress | None) -> Path:
    from torchvision import datasets

    folder = _home("torchvision", name, part)
    if folder.exists():
        return folder
    make: Any = getattr(datasets, name, None) if name in datasets.__all__ else None
    if not inspect.isclass(make):
        raise UnknownName(
            f"torchvision has no data set {name!r}. Known: {', '.join(sorted(datasets.__all__))}."
        )
    root = cache_dir() / "torchvision"
    takes = inspect.signature(make).parameters
    options: dict[str, Any] = {"root": root} if "root" in takes else {}
    options |= {"train": part == "train"} if "train" in takes else {"split": part} if "split" in takes else {}
    options |= {"download": True} if "download" in takes else {}
    try:
        found: Any = make(**options)
    except (OSError, RuntimeError, ValueError, TypeError, ImportError) as error:
        raise NoImages(
            f"cannot get torchvision:{name}:{part}: {_first_line(error)}. Without a network, put its files into {root} "
            "as torchvision lays them out, or give a folder of images."
        ) from None
    return _write(folder, _torchvision_items(found, name), len(found), progress)


def _torchvision_items(found: Any, name: str) -> Iterator[Item]:
    names = getattr(found, "classes", None)
    for number in range(len(found)):
        picture, label = found[number]
        if not isinstance(picture, Image.Image) or not hasattr(label, "__index__"):
            raise BadOption(f"torchvision:{name} is no set of images with one class each. Choose another.")
        label = int(label)
        yield (
            _png(picture),
            ".png",
            _class_folder(label, names[label] if names and label < len(names) else None),
        )


def _hugging_face(name: str, part: str, progress: Progress | None) -> Path:
    folder = _home("hf", name, part)
    here = Path(name).expanduser()
    if folder.exists() and not here.exists():
        return folder
    found = _loaded(name, here, part)
    folder = _home("hf", name, f"{part}-{found._fingerprint}") if here.exists() else folder
    if folder.exists():
        return folder
    return _write(folder, _hugging_face_items(found, name), len(found), progress)


def _loaded(name: str, here: Path, part: str) -> Any:
    try:
        import datasets
    except ModuleNotFoundError:
        raise BadOption(
            "reading hf:NAME needs the package datasets. Run: pip install 'vizsla[hf]'."
        ) from None
    saved = (here / "dataset_dict.json").exists() or (here / "state.json").exists()
    try:
        found = datasets.load_from_disk(str(here)) if saved else datasets.load_dataset(name)
    except Exception as error:  # it has a dozen kinds, of several packages
        raise NoImages(
            f"cannot load hf:{name}: {_first_line(error)}. Without a network, give the path of a data set that "
            "was saved by save_to_disk, such as hf:/path/to/it."
        ) from None
    if not isinstance(found, dict):
        return found
    if part not in found:
        raise UnknownName(
            f"hf:{name} has no part {part!r}, only {', '.join(found)}. Name one: hf:{name}:PART."
        )
    return found[part]


def _hugging_face_items(found: Any, name: str) -> Iterator[Item]:
    import datasets

    pictures = [column for column, kind in found.features.items() if isinstance(kind, datasets.Image)]
    classes = [column for column, kind in found.features.items() if isinstance(kind, datasets.ClassLabel)]
    classes += [column for column in ("label", "labels", "class") if column in found.features]
    if not pictures:
        raise BadOption(
            f"hf:{name} has no column of images, only {', '.join(found.features)}. Choose another."
        )
    names = getattr(found.features[classes[0]], "names", None) if classes else None
    wanted = found.select_columns([pictures[0], *classes[:1]]).cast_column(
        pictures[0], datasets.Image(decode=False)
    )
    for row in wanted:
        content = row[pictures[0]]["bytes"] or Path(row[pictures[0]]["path"]).read_bytes()
        label = row[classes[0]] if classes else None
        folder = _named(label, names)
        suffix = _suffix(content)
        yield (content, suffix, folder) if suffix else (_png(Image.open(io.BytesIO(content))), ".png", folder)


def _named(label: Any, names: list[str] | None) -> str | None:
    if label is None or label == -1:
        return None
    if isinstance(label, int):
        return _class_folder(label, names[label] if names else None)
    return _tidy(str(label))


def _class_folder(label: int, name: str | None) -> str:
    """A folder that says both, so that classes keep their numbers.

    >>> _class_folder(3, "cat"), _class_folder(3, None), _class_folder(3, "3")
    ('3_cat', '3', '3')
    """
    return str(label) if name is None or name == str(label) else f"{label}_{_tidy(name)}"


def _tidy(name: str) -> str:
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", name).strip(" .") or "_"


def _home(kind: str, name: str, part: str) -> Path:
    return cache_dir() / "samples" / re.sub(r"[^\w.-]+", "-", f"{kind}-{name}-{part}")


def _drop_numbers(folder: Path) -> None:
    """Take the numbers off class folders where some are missing, as in a part of a data set: they would be names."""
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    classes = number_classes(found)
    bare = {name: re.sub(r"^[0-9]+_(?=.)", "", name) for name in found}
    if classes is not None and set(classes.names) == set(found) and len(set(bare.values())) == len(found):
        for name, new in bare.items():
            (folder / name).rename(folder / new)


def _write(folder: Path, items: Iterable[Item], total: int, progress: Progress | None) -> Path:
    """All of them, as CLASS/NUMBER.SUFFIX; the folder appears once it is whole."""
    draft = draft_of(folder)
    with explain_write_errors(folder):
        try:
            for number, (content, suffix, name) in enumerate(items):
                file = draft / (name or "") / f"{number:07d}{suffix}"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                if progress:
                    progress(number + 1, total)
            _drop_numbers(draft)
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    (picture if picture.mode in ("L", "RGB", "RGBA") else picture.convert("RGB")).save(out, "PNG")
    return out.getvalue()


def _suffix(content: bytes) -> str | None:
    with Image.open(io.BytesIO(content)) as picture:
        return _SUFFIXES.get(picture.format or "")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
