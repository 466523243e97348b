"""`LeftOut`: what a scan passes over, counted by kind, so that nothing goes missing without a word."""

from __future__ import annotations

import errno
import logging
from collections import Counter

from vizsla.data.images import IMAGE_SUFFIXES

logger = logging.getLogger("vizsla")

OWN = ".vizsla"
"""The folder of a project beside its images: nothing of a person's is left out with it."""

_SYSTEM = frozenset(
    {
        "$recycle.bin",
        "recycler",
        "#recycle",
        "@recycle",
        "network trash folder",
    }  # what people have thrown away
    | {"@eadir", "__macosx", "@tmp", "#snapshot", "@recently-snapshot"}  # of NAS boxes and of macOS archives
    | {"system volume information", "lost+found", "lost.dir", "found.000"}  # of file systems
)

_NOT_SUPPORTED = (
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpx", ".jpf", ".jxl", ".jxr"),
    *(".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".dng", ".raf", ".orf", ".rw2"),
    *(".pef", ".raw", ".rwl", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc", ".mrw"),
    *(".psd", ".psb", ".xcf", ".svg", ".eps", ".ai", ".exr", ".hdr", ".tga", ".dds", ".pcx", ".ico", ".icns"),
    *(".dcm", ".dicom", ".nii", ".mha", ".nrrd", ".czi", ".lif", ".nd2", ".lsm", ".oib", ".vsi", ".svs"),
    *(".ndpi", ".mrxs", ".scn", ".fits", ".fts", ".sgi", ".ras", ".xbm", ".xpm", ".wmf", ".emf", ".bpg"),
)
_RANK = {suffix: rank for rank, suffix in enumerate(_NOT_SUPPORTED)}


def suffix_of(name: str) -> str:
    """What a file's name ends with, in small letters.

    >>> suffix_of("a.b/c.JPG"), suffix_of("a.b/c"), suffix_of(".jpg")
    ('.jpg', '', '')
    """
    stem, _, end = name.rpartition("/")[2].rpartition(".")
    return f".{end.lower()}" if stem and end else ""


def is_hidden(path: str) -> bool:
    """Whether a relative path leads through what is hidden, or what systems keep beside a person's files.

    >>> is_hidden("a/.b/c.jpg"), is_hidden("#recycle/c.jpg"), is_hidden("a/b.jpg")
    (True, True, False)
    """
    *folders, base = path.split("/")
    return base.startswith(".") or any(map(is_set_apart, folders))


def is_set_apart(folder: str) -> bool:
    """Whether a folder of that name holds nothing of a data set: it is hidden, or a recycle bin or the like."""
    return folder.startswith(".") or folder.casefold() in _SYSTEM


def hides_one_thing(error: OSError) -> bool:
    """Whether the error is about one folder or link for good. Others, as of a disk that fails, may hide everything."""
    known = isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError)
    return known or error.errno in (errno.ELOOP, errno.ENAMETOOLONG)


class LeftOut:
    """What one scan has passed over, by relative paths."""

    def __init__(self) -> None:
        self._suffixes: Counter[str] = Counter()
        self._kinds: dict[tuple[str, str], tuple[int, str]] = {}  # one, several → how many, the first by name
        self._apart: set[str] = set()

    def other_file(self, name: str, suffix: str) -> None:
        """A file that is no image that can be read; `suffix` is its own in small letters. Only images count."""
        if suffix in _RANK:
            self._suffixes[suffix] += 1

    def hidden_file(self, name: str) -> None:
        """A file whose name begins with a dot. Only images count."""
        if suffix_of(name) in IMAGE_SUFFIXES:
            self._add("hidden image", "hidden images", name)

    def set_apart(self, folder: str) -> None:
        """A folder for which `is_set_apart` holds."""
        base = folder.rpartition("/")[2]
        if base.startswith("."):
            if base != OWN:
                self._add("hidden folder", "hidden folders", folder)
        else:
            self._add("system folder", "system folders", folder)

    def hidden_path(self, path: str) -> None:
        """A path for which `is_hidden` holds, where folders are only seen by what lies in them."""
        parts = path.split("/")
        depth = next((n for n, folder in enumerate(parts[:-1], 1) if is_set_apart(folder)), 0)
        if not depth:
            self.hidden_file(path)
        elif (folder := "/".join(parts[:depth])) not in self._apart:
            self._apart.add(folder)
            self.set_apart(folder)

    def circle(self, link: str) -> None:
        """A link that leads to itself, or to a folder that it lies in."""
        self._add("link that leads back to itself", "links that lead back to themselves", link)

    def dead_link(self, link: str) -> None:
        """A link to what is not there."""
        self._add("link that leads nowhere", "links that lead nowhere", link)

    def closed(self, name: str, error: OSError) -> None:
        """A folder, or a link, that could not be looked into."""
        if error.errno == errno.ELOOP:
            self.circle(name)
        elif not isinstance(error, FileNotFoundError):  # else it has gone meanwhile
            why = f"{name} ({error.strerror or error})"
            self._add("folder that cannot be read", "folders that cannot be read", why)

    def _add(self, one: str, several: str, name: str) -> None:
        count, first = self._kinds.get((one, several), (0, name))
        self._kinds[one, several] = count + 1, min(first, name)

    def lines(self) -> tuple[str, ...]:
        """A line for each kind; none where nothing was left out.

        >>> found = LeftOut()
        >>> found.other_file("a.ppm", ".ppm"), found.set_apart("#recycle")
        (None, None)
        >>> found.lines()
        ('left out 1 .ppm: not supported', 'left out 1 system folder: #recycle')
        """
        return tuple(f"left out {what}" for what in self._phrases())

    def _phrases(self) -> list[str]:
        phrases = []
        if self._suffixes:
            ranked = sorted(self._suffixes.items(), key=lambda item: (-item[1], _RANK[item[0]]))
            phrases.append(", ".join(f"{count:,} {suffix}" for suffix, count in ranked) + ": not supported")
        for (one, several), (count, first) in sorted(self._kinds.items()):
            phrases.append(f"{count:,} {several}, such as {first}" if count > 1 else f"1 {one}: {first}")
        return phrases

    def say(self) -> tuple[str, ...]:
        """Log the lines, and return them."""
        for line in self.lines():
            logger.warning("%s", line)
        return self.lines()

    def aside(self) -> str:
        """The same as the end of half a sentence; nothing where nothing was left out."""
        return f" (left out: {'; '.join(self._phrases())})" if self._phrases() else ""
