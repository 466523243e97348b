"""Huge and strange files: refused with their size, or decoded cheaply."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vizsla.data import jpegs, limits
from vizsla.data.images import check, load
from vizsla.data.indexed import IndexedDataset
from vizsla.data.kept import limit_in_bytes
from vizsla.errors import BadOption, UnreadableImage
from vizsla.models.backbones import Transform

GREY, COLOUR = 0, 2


def flat_png(width: int, height: int, colour_type: int = GREY, bits: int = 8) -> bytes:
    """A PNG of zeros: a thousandth of its pixels in size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    packer, packed = zlib.compressobj(9), []
    row = bytes(1 + -(-width * bits * (3 if colour_type == COLOUR else 1) // 8))
    rows = max(1, 2**20 // len(row))
    for start in range(0, height, rows):
        packed.append(packer.compress(row * min(rows, height - start)))
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    content = b"".join((*packed, packer.flush()))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
    return Image.fromarray(values[..., :3] if mode != "RGBA" else values).convert(mode)


# --- thin


@pytest.mark.parametrize(("width", "height"), [(4000, 1), (1, 4000), (3001, 7), (5, 2048)])
def test_of_a_very_long_image_the_network_sees_the_same_middle_as_of_all_of_it(
    width: int, height: int
) -> None:
    ramp = np.linspace(0, 255, width * height).reshape(height, width)
    image = Image.fromarray(np.rint(ramp).astype(np.uint8))
    size = 16
    scale = size / min(width, height)
    whole = image.convert("RGB").resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
    left, top = round((whole.width - size) / 2), round((whole.height - size) / 2)
    expected = np.asarray(whole.crop((left, top, left + size, top + size))).transpose(2, 0, 1).astype(int)
    np.testing.assert_allclose(Transform(size, crop=1.0).pixels(image), expected, atol=1)


def test_an_ordinary_image_is_resized_in_full() -> None:
    image = noise(400, 50)
    resized = image.resize((128, 16), Image.Resampling.BICUBIC).crop((56, 0, 72, 16))
    assert np.array_equal(Transform(16, crop=1.0).pixels(image), np.asarray(resized).transpose(2, 0, 1))


# --- memory and time: measured in a process of its own

MEASURE = """
import io, resource, sys
from pathlib import Path
from PIL import Image
from vizsla.data.images import load
from vizsla.errors import UnreadableImage

if sys.argv[2:]:
    from vizsla.models.backbones import Transform
    see_all = Transform(224).pixels
else:  # without torch, which takes seconds to load
    see_all = Image.Image.getextrema

def see(content):
    try:
        see_all(load(content, size=256))
    except UnreadableImage as error:
        print(error)

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 2**20)

for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
    file = io.BytesIO()
    Image.new("RGB", (400, 300)).save(file, kind)
    see(file.getvalue())
before = most()
see(Path(sys.argv[1]).read_bytes())
print(most() - before)
"""


def cost(path: Path, *, network: bool) -> tuple[str, int]:
    """What was said about the file, and how many MB it took more than ordinary ones."""
    said = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), *["network"][: int(network)]],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert said.stderr == ""
    message, _, megabytes = said.stdout.strip().rpartition("\n")
    return message, int(megabytes)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
@pytest.mark.parametrize(
    ("width", "height", "colour_type", "refused"),
    [
        (60_000, 1, GREY, False),
        (1, 300_000, COLOUR, False),
        (13_000, 13_000, GREY, False),  # 169 MB
        (13_000, 13_000, COLOUR, True),  # 676 MB
        (300_000, 300_000, GREY, True),
    ],
)
def test_no_image_takes_500_mb_more_than_an_ordinary_one(
    tmp_path: Path, width: int, height: int, colour_type: int, refused: bool
) -> None:
    content = flat_png(width, height if height < 20_000 or width == 1 else 1, colour_type)
    if height > 20_000 and width > 1:  # says so, but the file is short
        content = content.replace(struct.pack(">II", width, 1), struct.pack(">II", width, height))
        start = content.index(b"IHDR")
        content = (
            content[: start + 17]
            + struct.pack(">I", zlib.crc32(content[start : start + 17]))
            + content[start + 21 :]
        )
    path = tmp_path / "huge.png"
    path.write_bytes(content)
    message, megabytes = cost(path, network=min(width, height) == 1)
    assert bool(message) == refused
    assert megabytes < 500


def test_a_refusal_names_the_file_its_size_and_the_setting(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VIZSLA_IMAGE_MEMORY", "1MB")
    path = tmp_path / "large.png"
    path.write_bytes(flat_png(1000, 700, COLOUR))
    with pytest.raises(UnreadableImage) as caught:
        load(path)
    assert str(caught.value) == (
        f"cannot read {path}: its 1,000 × 700 pixels would take 3 MB of memory, and 1 MB are allowed: "
        "make it smaller, or set VIZSLA_IMAGE_MEMORY to more. Replace or remove the file."
    )
    monkeypatch.setenv("VIZSLA_IMAGE_MEMORY", "20MB")
    assert load(path).size == (1000, 700)


def test_a_file_that_is_too_large_as_it_lies_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    with path.open("wb") as file:
        file.truncate(10**11)
    assert check(path) == (
        "it has 100,000 MB, and 450 MB are allowed: make it smaller, or set VIZSLA_IMAGE_MEMORY to more"
    )


def test_what_is_over_the_limits_is_left_out_and_nothing_else_stops(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    monkeypatch.setenv("VIZSLA_IMAGE_MEMORY", "1MB")
    (tmp_path / "large.png").write_bytes(flat_png(1000, 700, COLOUR))
    (tmp_path / "small.png").write_bytes(flat_png(10, 7))
    dataset = IndexedDataset(tmp_path)
    assert [dataset.file_name(n) for n in range(len(dataset))] == ["small.png"]
    assert "left out large.png: its 1,000 × 700 pixels" in caplog.text


def test_too_many_pixels_are_refused_with_their_number() -> None:
    assert "it has 400,000,000 pixels" in (check(encoded(Image.new("1", (20_000, 20_000)), "PNG")) or "")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
def test_a_large_image_is_converted_in_pieces_to_the_same_pixels(mode: str, monkeypatch) -> None:
    content = encoded(noise(90, 70, mode), "TIFF")
    whole = load(content)
    monkeypatch.setattr("vizsla.data.images._PIECE", 1000)
    assert np.array_equal(np.asarray(load(content)), np.asarray(whole))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_large_image_is_shrunk_on_the_way_but_not_below_the_size_asked_for(mode: str, monkeypatch) -> None:
    content = encoded(noise(900, 630, mode), "PNG")
    whole = load(content)
    monkeypatch.setattr("vizsla.data.limits.LARGE", 1000)
    monkeypatch.setattr("vizsla.data.images._PIECE", 20_000)
    assert load(content).size == (900, 630)
    assert np.array_equal(np.asarray(load(content, 100)), np.asarray(whole.reduce(3)))
    for size in (1, 50, 315, 630, 5000):
        assert min(load(content, size).size) >= min(size, 630)


def test_without_a_size_an_image_that_would_not_fit_comes_smaller(monkeypatch) -> None:
    photo, grey = encoded(noise(1000, 800), "JPEG"), encoded(noise(1000, 800, "L"), "PNG")
    monkeypatch.setenv("VIZSLA_IMAGE_MEMORY", "3MB")
    assert load(photo).size == (500, 400)  # 3.2 MB in full, and the file
    assert load(grey).size == (500, 400)  # .8 MB as grey, and 3.2 MB as RGB


# --- strange files


def test_scans_are_counted_without_those_of_the_thumbnail() -> None:
    small = noise(64, 48)
    plain, progressive = encoded(small, "JPEG"), encoded(small, "JPEG", progressive=True)
    assert jpegs.scans(io.BytesIO(plain), 100) == 1
    assert jpegs.scans(io.BytesIO(progressive), 100) == progressive.count(b"\xff\xda") > 5
    exif = b"Exif\0\0" + progressive
    assert jpegs.scans(io.BytesIO(encoded(small, "JPEG", exif=exif)), 100) == 1
    assert jpegs.scans(io.BytesIO(progressive + progressive), 100) == progressive.count(b"\xff\xda")
    assert jpegs.scans(io.BytesIO(progressive), 3) == 4
    for end in range(len(plain)):
        assert jpegs.scans(io.BytesIO(plain[:end]), 100) == 1


def with_scans(photo: bytes, count: int) -> bytes:
    """A progressive JPEG whose last scan comes many times."""
    last = photo.rindex(b"\xff\xda")
    return photo[:-2] + photo[last:-2] * count + photo[-2:]


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    photo = with_scans(encoded(Image.new("RGB", (2000, 1500)), "JPEG", progressive=True), 3000)
    assert "its 2,000 × 1,500 pixels are stored in" in (check(photo) or "")
    few = with_scans(encoded(Image.new("RGB", (200, 150)), "JPEG", progressive=True), 50)
    assert load(few).size == (200, 150)


def test_a_long_run_length_encoded_bmp_is_refused() -> None:
    runs = b"\x01\x00" * (limits.RUN_BYTES // 2)
    head = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 1078, 40, 2000, 1000, 1, 8, 1, len(runs), 0, 0, 256, 0
    )
    assert "run-length encoded BMP of 5 MB" in (check(head + bytes(1024) + runs) or "")


@pytest.mark.parametrize("kind", ["iCCP", "zTXt", "tEXt", "eXIf"])
def test_a_png_with_much_beside_the_picture_is_read_or_named(kind: str) -> None:
    packed = zlib.compress(bytes(50_000_000), 9)
    content = {"iCCP": b"a\0\0" + packed, "zTXt": b"a\0\0" + packed, "tEXt": b"a\0" + bytes(9_000_000)}.get(
        kind, b"II*\0" + bytes(9_000_000)
    )
    picture = flat_png(8, 8)
    chunk = struct.pack(">I", len(content)) + kind.encode() + content
    chunk += struct.pack(">I", zlib.crc32(kind.encode() + content))
    try:
        assert load(picture[:33] + chunk + picture[33:]).size == (8, 8)
    except UnreadableImage as error:
        assert "an image of" in str(error)  # its name


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), OSError("broken"), SystemError("tile")]
)
def test_whatever_goes_wrong_names_the_file(tmp_path: Path, monkeypatch, error: Exception) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(flat_png(8, 8))

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "getexif", fail)  # is passed over: a picture may have broken metadata
    assert load(path).size == (8, 8)
    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(UnreadableImage, match=r"cannot read .*a\.png: \S+"):
        load(path)


def test_sizes_are_read_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("VIZSLA_IMAGE_MEMORY", "much")
    with pytest.raises(BadOption, match=r"VIZSLA_IMAGE_MEMORY=much is no size\. Give bytes"):
        limits.memory()
    monkeypatch.setenv("VIZSLA_CACHE_LIMIT", "2KB")
    assert limit_in_bytes() == 2000
