"""Images for the page: by id only, upright, no larger than a screen, and never the file itself."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from PIL import Image as Picture

from vizsla.data import limits
from vizsla.data.deep import EDITION
from vizsla.data.images import explained, load
from vizsla.errors import UnreadableImage, VizslaError
from vizsla.project import Project
from vizsla.store import Image
from vizsla.web import wire

Size = Literal["screen", "thumb"]

_SIDE = {"screen": 1600, "thumb": 256}
_SMALL = 512  # up to this side PNG, which keeps the few pixels of a small picture as they are
SIGNED_SECONDS = 3600
_CACHE_BYTES = 96 * 2**20
_REPLACED = "{} is another picture now. It comes up as a new image after a rescan."
_AT_ONCE = threading.BoundedSemaphore(2 * (os.cpu_count() or 1))  # large images need much memory


class Gone(VizslaError):
    """The file of an image is not there any more."""


class Replaced(VizslaError):
    """Another content lies where the image lay."""


@dataclass(frozen=True)
class Encoded:
    """A picture as it goes to the browser."""

    content: bytes
    media_type: str


class Pictures:
    """Decodes and shrinks images, and keeps the small ones in memory."""

    def __init__(self, project: Project, *, signed: bool = False) -> None:
        self.project = project
        self._signed = signed
        self.hashes: dict[int, str] = {}
        """Contents met for the first time, for whoever writes them to the store."""
        self._known: set[int] = set()  # ids of images whose content the store knows, or will in a moment
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def write_hashes(self) -> None:
        """Have the store know the contents that were met."""
        with self._lock:
            found, self.hashes = self.hashes, {}
        if found:
            try:
                self.project.store.set_hashes(found)
            except VizslaError:
                with self._lock:
                    self.hashes |= found  # the disk is full, say: they are tried again
                raise

    def know(self, image_ids: Iterable[int]) -> None:
        """Have the contents known of images that get an answer; of those that were shown, they are."""
        ids = set(image_ids)
        if any(image_id in self.hashes for image_id in ids):  # else the next look at the store writes them
            self.write_hashes()
        if never_shown := ids - self._known:
            self.project.note_contents(never_shown)
            self._known |= never_shown

    def mark(self, image_id: int) -> str:
        """What a URL carries so that a browser may keep the picture for good: other projects have this id, too."""
        return hashlib.sha256(f"{self.project.mark}|{image_id}|{EDITION}".encode()).hexdigest()[:10]

    def url(self, image_id: int) -> str:
        """Where a browser finds the picture."""
        return f"/api/images/{image_id}?v={self.mark(image_id)}"

    def thumb_url(self, image_id: int) -> str:
        """Where a browser finds it small."""
        return f"/api/images/{image_id}/thumb?v={self.mark(image_id)}"

    def tag(self, image: Image, size: Size) -> str:
        """The ETag of a picture."""
        what = f"{self.mark(image.id)}|{image.size}|{image.mtime_ns}|{image.ctime_ns}|{size}"
        return f'"{hashlib.sha256(what.encode()).hexdigest()[:20]}"'

    def elsewhere(self, image: Image, size: Size) -> str | None:
        """A URL that gives the large picture to a browser for an hour, where the server was told to use such.

        Raises: Gone.
        """
        if not self._signed or size != "screen":
            return None
        return self.project.source.signed(self._name(image), SIGNED_SECONDS)

    def get(self, image: Image, size: Size) -> Encoded:
        """The picture.

        Raises: Gone, Replaced, or UnreadableImage, upon which the image has been taken out of the queue.
        """
        tag = self.tag(image, size)
        name = self._name(image)
        with self._lock:
            if tag in self._kept:
                self._kept.move_to_end(tag)
                return self._kept[tag]
        try:
            content = self._read(image, name)
            self._known.add(image.id)
            with _AT_ONCE:
                encoded = _encode(content, _SIDE[size])
        except UnreadableImage as error:
            reason = f"{wire.readable(image.path)} cannot be shown: {str(error).partition(': ')[2]}"
            self.project.store.set_unreadable(image.id, reason)
            raise UnreadableImage(reason) from None
        self._keep(tag, encoded)
        return encoded

    def _name(self, image: Image) -> str:
        """What the image is called, if its content still lies there."""
        if image.path is None or image.state == "missing":
            raise Gone(f"image {image.id} is not in the folder any more; its labels are kept.")
        name = wire.readable(image.path)
        try:
            touched = not self.project.is_untouched(image)
        except OSError as error:
            raise Gone(f"{name} cannot be opened: {error.strerror}. Put it back and rescan.") from None
        if touched and image.sha256 is not None and self.project.digest(image.path) != image.sha256:
            raise Replaced(_REPLACED.format(wire.readable(image.path)))
        return image.path

    def _read(self, image: Image, name: str) -> bytes:
        try:
            limits.check_file(image.size)
            content = self.project.source.read(name)
        except (UnreadableImage, MemoryError) as error:
            raise explained("it", error) from None
        except OSError as error:
            raise Gone(f"{wire.readable(image.path)} cannot be opened: {error.strerror}.") from None
        digest = hashlib.sha256(content).hexdigest()
        if image.sha256 is None:
            with self._lock:
                self.hashes[image.id] = digest
        elif digest != image.sha256:  # also where a file system keeps no times that tell
            raise Replaced(_REPLACED.format(wire.readable(name)))
        return content

    def _keep(self, tag: str, encoded: Encoded) -> None:
        with self._lock:
            if tag not in self._kept:
                self._kept[tag] = encoded
                self._bytes += len(encoded.content)
            while self._bytes > _CACHE_BYTES:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest.content)


def _encode(content: bytes, side: int) -> Encoded:
    try:
        return _shrunk(load(content, size=side * 3 // 4), side)
    except MemoryError as error:
        raise explained("it", error) from None


def _shrunk(picture: Picture.Image, side: int) -> Encoded:
    if max(picture.size) > side:
        picture.thumbnail((side, side), Picture.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    if max(picture.size) <= _SMALL and side > _SIDE["thumb"]:
        picture.save(out, "PNG", compress_level=1)
        return Encoded(out.getvalue(), "image/png")
    picture.save(out, "JPEG", quality=88)
    return Encoded(out.getvalue(), "image/jpeg")
