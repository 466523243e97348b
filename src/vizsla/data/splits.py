"""Splits: folders like `train` and `test`, which say what part of a data set lies in them, and not of which class."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_BESIDE = frozenset({"unlabeled", "unlabelled", "extra"})
"""What lies beside the parts of some data sets; it tells of none by itself."""

SPLITS = frozenset(_PARTS)
"""Folders that say which part of a data set their images belong to, in small letters."""

_LONGER = re.compile(
    rf"({'|'.join([*_PARTS, *_BESIDE])})([-_ ]?(set|data|images|imgs))?([-_ ]?[0-9]{{1,4}})?"
)
"""What else they are called: `training_set`, `test-images`, `val2017`."""


@dataclass(frozen=True)
class Layout:
    """What the folders above an image mean."""

    splits: tuple[str, ...] = ()
    """The outermost folders, where they are splits and the classes lie below them; else none."""

    def class_folder(self, path: str) -> str | None:
        """The folder of a relative path that is the image's class; None for an image that lies in none.

        >>> Layout().class_folder("cat/indoors/1.jpg"), Layout(("test", "train")).class_folder("test/cat/1.jpg")
        ('cat', 'cat')
        >>> Layout().class_folder("1.jpg"), Layout(("test", "train")).class_folder("test/1.jpg")
        (None, None)
        """
        first, slash, rest = path.partition("/")
        if slash and self.splits:
            first, slash, _ = rest.partition("/")
        return first if slash else None

    def sentence(self, classes: Iterable[str]) -> str:
        """What to tell a person about splits that were found above these class folders."""
        below = ", ".join(classes)
        where = f"the classes are the folders below: {below}" if below else "no class folders lie below"
        are = "are splits" if len(self.splits) > 1 else "is a split"
        return (
            f"{', '.join(self.splits)} {are}, not {'classes' if len(self.splits) > 1 else 'a class'}; {where}. "
            "If that is wrong, use --no-splits, in Python splits=False."
        )


def is_split(folder: str) -> bool:
    """Whether a folder is called like a part of a data set.

    >>> is_split("Training_set"), is_split("trains")
    (True, False)
    """
    return _LONGER.fullmatch(folder.lower()) is not None


def layout_of(tops: Iterable[str]) -> Layout:
    """The layout of a data set with these outermost folders: they are splits where all of them are called so.

    One alone must be called by a plain word, such as `train`; of several there must be two parts of a data set, or
    the training part and what lies beside it, such as `unlabeled`.

    >>> layout_of(["Train", "test"]).splits, layout_of(["test", "blood", "urine"]).splits
    (('Train', 'test'), ())
    >>> layout_of(["train2017", "val2017"]).splits, layout_of(["test 1", "test 2"]).splits
    (('train2017', 'val2017'), ())
    >>> layout_of(["train", "unlabeled"]).splits, layout_of(["test", "extra"]).splits
    (('train', 'unlabeled'), ())
    """
    names = sorted(set(tops))
    found = [_LONGER.fullmatch(name.lower()) for name in names]
    words = {match[1] for match in found if match}
    parts = {_PARTS[word] for word in words - _BESIDE}
    if not all(found) or not parts:
        return Layout()
    alone = len({name.lower() for name in names}) == 1 and names[0].lower() in SPLITS
    beside = "train" in parts and not words.isdisjoint(_BESIDE)
    return Layout(tuple(names)) if alone or beside or len(parts) > 1 else Layout()


def training_split(splits: Iterable[str]) -> str:
    """The one to train on; the first where none is called so.

    >>> training_split(["test", "Train"])
    'Train'
    """
    names = sorted(splits)
    return next((name for name in names if name.lower().startswith("train")), names[0])
