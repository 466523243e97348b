from __future__ import annotations

import io
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from vizsla.data.images import IMAGE_SUFFIXES, check, load
from vizsla.errors import UnreadableImage

RED, BLUE, GREEN, WHITE = (255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255)

# How EXIF says an image D is stored under each orientation: what the file's first row and column show.
STORED = {
    1: lambda d: d,
    2: lambda d: d[:, ::-1],
    3: lambda d: d[::-1, ::-1],
    4: lambda d: d[::-1],
    5: lambda d: d.transpose(1, 0, 2),
    6: lambda d: np.rot90(d, 1),
    7: lambda d: d[::-1, ::-1].transpose(1, 0, 2),
    8: lambda d: np.rot90(d, -1),
}


def flag() -> np.ndarray:
    """96 wide, 64 high: left half red, right half blue, a green square at the top left."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48] = RED
    pixels[:, 48:] = BLUE
    pixels[:32, :32] = GREEN
    return pixels


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def assert_shows_the_flag(image: Image.Image, tolerance: int) -> None:
    assert (image.mode, image.size) == ("RGB", (96, 64))
    difference = np.abs(np.asarray(image).astype(int) - flag())
    inside = difference.reshape(4, 16, 6, 16, 3)[:, 4:12, :, 4:12]  # codecs smear colour at the edges
    assert inside.max() <= tolerance


@pytest.fixture(autouse=True)
def heif_can_be_written() -> None:
    pillow_heif.register_heif_opener()


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("JPEG", 12), ("PNG", 0), ("WEBP", 12), ("BMP", 0), ("GIF", 0), ("TIFF", 0), ("HEIF", 12), ("AVIF", 12)],
)
def test_each_format_shows_the_picture_that_was_written(kind: str, tolerance: int, tmp_path: Path) -> None:
    path = tmp_path / "flag.anything"
    path.write_bytes(encoded(Image.fromarray(flag()), kind))
    assert_shows_the_flag(load(path), tolerance)
    assert_shows_the_flag(load(path.read_bytes()), tolerance)
    with path.open("rb") as file:
        assert_shows_the_flag(load(file), tolerance)
    assert check(path) is None


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_an_image_comes_out_upright_whatever_its_exif_orientation(kind: str, orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](flag())))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_shows_the_flag(load(encoded(stored, kind, exif=exif.tobytes())), tolerance=12)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        animation = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert load(animation).getpixel((4, 4)) == pytest.approx(RED, abs=12)


def test_a_phone_s_mpo_file_gives_its_main_picture() -> None:
    main, other = Image.fromarray(flag()), Image.new("RGB", (96, 64), "white")
    assert_shows_the_flag(load(encoded(main, "MPO", save_all=True, append_images=[other])), tolerance=12)


def greys(image: Image.Image) -> list[int]:
    assert image.mode == "RGB"
    red, green, blue = (np.asarray(image)[0, :, channel].tolist() for channel in range(3))
    assert red == green == blue
    return red


def row(values: list[float], kind: type) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=kind))


def test_8_bit_and_1_bit_grey_stay_as_they_are() -> None:
    assert greys(load(encoded(row([0, 77, 255], np.uint8), "PNG"))) == [0, 77, 255]
    assert greys(load(encoded(row([0, 200], np.uint8).convert("1", dither=Image.Dither.NONE), "PNG"))) == [
        0,
        255,
    ]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    assert greys(load(encoded(row([0, 257, 25700, 65535], np.uint16), kind))) == [0, 1, 100, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 100, 255], [0, 100, 255]),  # 8 bits in a wide file
        ([0, 257, 65535], [0, 1, 255]),  # 16 bits
        ([1_000_000, 1_100_000, 1_255_000], [0, 100, 255]),  # anything else: lowest to highest
        ([-255, -55, 0], [0, 200, 255]),
    ],
)
def test_32_bit_integers_are_scaled_by_the_range_they_use(values: list[float], expected: list[int]) -> None:
    assert greys(load(encoded(row(values, np.int32), "TIFF"))) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.2, 1.0], [0, 51, 255]),
        ([0.0, 51.0, 255.0], [0, 51, 255]),
        ([-1.0, 0.0, 4.0], [0, 51, 255]),
        ([0.0, np.nan, 1.0], [0, 0, 255]),
        ([0.0, np.inf, 1.0], [0, 255, 255]),
        ([np.nan, np.nan], [0, 0]),
        ([7.0, 7.0], [7, 7]),
        ([-3.0, -3.0], [0, 0]),
    ],
)
def test_float_tiffs_are_scaled_by_the_range_they_use(values: list[float], expected: list[int]) -> None:
    assert greys(load(encoded(row(values, np.float32), "TIFF"))) == expected


def test_transparent_parts_are_white_and_half_transparent_ones_half_white() -> None:
    rgba = Image.new("RGBA", (3, 1))
    rgba.putdata([(13, 37, 99, 0), (*RED, 255), (0, 0, 0, 128)])
    for kind in ("PNG", "TIFF"):
        image = load(encoded(rgba, kind))
        assert image.getpixel((0, 0)) == WHITE
        assert image.getpixel((1, 0)) == RED
        assert image.getpixel((2, 0)) == pytest.approx((127, 127, 127), abs=1)


def test_transparent_grey_is_white() -> None:
    grey = Image.new("LA", (2, 1))
    grey.putdata([(40, 0), (40, 255)])
    assert greys(load(encoded(grey, "PNG"))) == [255, 40]


def test_a_colour_declared_transparent_is_white() -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), GREEN)
    loaded = load(encoded(image, "PNG", transparency=GREEN))
    assert [loaded.getpixel((x, 0)) for x in (0, 1)] == [RED, WHITE]


def palette_image() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *BLUE, *GREEN])
    image.putdata([0, 1, 2])
    return image


def test_palettes_give_their_colours() -> None:
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        loaded = load(encoded(palette_image(), kind))
        assert [loaded.getpixel((x, 0)) for x in range(3)] == [RED, BLUE, GREEN]


def test_transparent_palette_entries_are_white() -> None:
    by_entry = load(encoded(palette_image(), "PNG", transparency=bytes([255, 0, 255])))
    by_number = load(encoded(palette_image(), "GIF", transparency=1))
    for loaded in (by_entry, by_number):
        assert [loaded.getpixel((x, 0)) for x in range(3)] == [RED, WHITE, GREEN]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_neither_inverted_nor_left_as_four_channels(kind: str) -> None:
    red_ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert load(encoded(red_ink, kind)).getpixel((8, 8)) == pytest.approx(RED, abs=6)


def test_a_smaller_decode_never_goes_below_the_size_asked_for() -> None:
    photo = encoded(Image.effect_noise((900, 700), 40).convert("RGB"), "JPEG")
    for size in range(1, 1000, 13):
        width, height = load(photo, size).size
        assert min(width, height) >= min(size, 700)
        assert width / height == pytest.approx(900 / 700, rel=0.02)
    assert min(load(photo, 100).size) < 200  # the hint is used
    assert load(photo).size == load(photo, 700).size == load(photo, 5000).size == (900, 700)


def test_a_small_image_keeps_its_size() -> None:
    assert load(encoded(Image.new("RGB", (20, 10)), "JPEG"), 224).size == (20, 10)


def broken_files(folder: Path) -> dict[str, Path]:
    photo = encoded(Image.effect_noise((200, 200), 40).convert("RGB"), "JPEG")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    contents = {
        "empty": b"",
        "text": b"not a picture at all\n" * 20,
        "truncated": photo[: len(photo) // 2],
        "header only": photo[:30],
        "cut png": encoded(Image.effect_noise((200, 200), 40), "PNG")[:9000],
        "cut heic": encoded(Image.fromarray(flag()), "HEIF")[:-200],
        "cut avif": encoded(Image.fromarray(flag()), "AVIF")[:-200],
        "postscript": postscript,
    }
    for name, content in contents.items():
        (folder / f"{name}.jpg").write_bytes(content)
    (folder / "folder.jpg").mkdir()
    return {name: folder / f"{name}.jpg" for name in [*contents, "folder", "vanished"]}


def test_every_broken_file_is_one_error_of_one_line_with_its_path(tmp_path: Path) -> None:
    for path in broken_files(tmp_path).values():
        with pytest.raises(UnreadableImage) as caught:
            load(path)
        reason = check(path)
        assert str(caught.value) == f"cannot read {path}: {reason}. Replace or remove the file."
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "empty"),
        ("text", "not a JPEG"),
        ("truncated", "truncated"),
        ("postscript", "not a JPEG"),
        ("folder", "Is a directory"),
        ("vanished", "No such file"),
    ],
)
def test_the_reason_says_what_is_wrong(name: str, reason: str, tmp_path: Path) -> None:
    assert reason in (check(broken_files(tmp_path)[name]) or "")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_we_may_not_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(Image.new("RGB", (4, 4)), "PNG"))
    path.chmod(0)
    assert check(path) == "Permission denied"


def test_broken_bytes_and_open_files_are_named_too() -> None:
    with pytest.raises(UnreadableImage, match="cannot read an image of 3 bytes"):
        load(b"abc")
    with pytest.raises(UnreadableImage, match="cannot read an open file: the file is empty"):
        load(io.BytesIO())


def test_large_images_load_silently_and_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    large, bomb = (encoded(Image.new("1", (1000, height)), "PNG") for height in (1900, 2100))
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(large))
    assert load(large).size == (1000, 1900)
    with pytest.raises(UnreadableImage, match="more than 2 million pixels"):
        load(bomb)


def test_corrupt_exif_neither_spoils_the_image_nor_warns() -> None:
    beyond_the_end = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x010F, 2, 1000, 500) + bytes(4)
    photo = encoded(Image.fromarray(flag()), "JPEG", exif=b"Exif\0\0" + beyond_the_end)
    with pytest.warns(UserWarning, match="Tag data|EXIF data"):
        Image.open(io.BytesIO(photo)).getexif()
    assert_shows_the_flag(load(photo), tolerance=12)


def test_garbage_exif_does_not_spoil_the_image() -> None:
    photo = encoded(Image.fromarray(flag()), "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert_shows_the_flag(load(photo), tolerance=12)


def test_other_people_s_warnings_are_still_heard() -> None:
    load(encoded(Image.new("RGB", (4, 4)), "PNG"))
    with pytest.raises(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_a_thousand_loads_leave_at_most_one_warning_filter() -> None:
    before = len(warnings.filters)
    picture = encoded(Image.new("RGB", (4, 4)), "PNG")
    for _ in range(1000):
        load(picture)
    assert len(warnings.filters) <= before + 1


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert all(suffix == f".{suffix.strip('.').lower()}" for suffix in IMAGE_SUFFIXES)
    assert {".jpg", ".heic", ".avif"} <= IMAGE_SUFFIXES
