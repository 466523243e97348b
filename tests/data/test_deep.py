from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from vizsla.data import images
from vizsla.data.deep import to_8_bits, value_range
from vizsla.data.images import check, is_deep, load
from vizsla.data.indexed import IndexedDataset
from vizsla.errors import UnreadableImage


def ramp(top: float, low: float = 0, kind: type = np.float64) -> np.ndarray:
    """Two rows from the lowest value at the left to the highest at the right."""
    values = np.linspace(low, top, 52)
    return np.tile(np.rint(values) if np.issubdtype(kind, np.integer) else values, (2, 1)).astype(kind)


def tiff(values: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    options.setdefault("photometric", "rgb" if values.ndim == 3 else "minisblack")
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def png(values: np.ndarray, transparent: list[int] | None = None) -> bytes:
    """A PNG of 16 bits a sample: (h, w) grey, or (h, w, 2, 3 or 4) with colours and alpha."""
    height, width = values.shape[:2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[values.size // (height * width)]
    rows = values.astype(">u2").reshape(height, -1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    clear = chunk(b"tRNS", np.array(transparent, ">u2").tobytes()) if transparent else b""
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + clear + data + chunk(b"IEND", b"")


def first_row(content: bytes) -> np.ndarray:
    image = load(content)
    assert image.mode == "RGB"
    return np.asarray(image)[0].astype(int)


def greys(content: bytes) -> np.ndarray:
    row = first_row(content)
    assert (row == row[:, :1]).all()
    return row[:, 0]


STEPS = np.arange(0, 256, 5)  # what 52 even steps from black to white look like


@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("write", [tiff, png])
def test_fewer_bits_in_a_file_of_sixteen_go_from_black_to_white(bits: int, write) -> None:
    np.testing.assert_allclose(greys(write(ramp(2**bits - 1, kind=np.uint16))), STEPS, atol=1)


@pytest.mark.parametrize("compression", [None, "zlib", "lzma"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("low", "top", "kind"),
    [
        (0, 4095, np.int16),
        (-2048, 2047, np.int16),
        (-1024, 3071, np.int16),
        (0, 127, np.int8),
        (-128, 127, np.int8),
        (0, 4095, np.uint32),
        (0, 2**32 - 1, np.uint32),
        (-(2**31), 2**31 - 1, np.int32),
        (0, 2**40, np.uint64),
        (0, 1, np.float16),
        (0, 1, np.float32),
        (0, 1.2, np.float32),
        (0, 4095, np.float32),
        (0, 3000.5, np.float32),
        (-7, 3, np.float64),
        (0, 1e-2, np.float64),
        (290, 300.5, np.float64),
    ],
)
def test_every_number_type_goes_from_black_to_white(low, top, kind, byteorder: str, compression) -> None:
    content = tiff(ramp(top, low, kind), byteorder=byteorder, compression=compression)
    if top == 1e-2:  # the nearest half of a half of … 1
        assert greys(content)[[0, -1]].tolist() == [0, 163]
    else:
        np.testing.assert_allclose(greys(content), STEPS, atol=1 + (kind == np.float16))


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.int16, np.float32, np.float64])
def test_white_is_zero_where_the_file_says_so(kind: type) -> None:
    top = 1 if np.issubdtype(kind, np.floating) else 4095
    content = tiff(ramp(top, kind=kind), photometric="miniswhite")
    np.testing.assert_allclose(greys(content), STEPS[::-1], atol=1)


def test_white_is_zero_in_fewer_bits_too() -> None:
    for mode in ("1", "L"):
        file = io.BytesIO()
        Image.new(mode, (4, 1)).save(file, "TIFF", tiffinfo={262: 0})
        assert greys(file.getvalue()).tolist() == [0, 0, 0, 0]  # saved as what it looks like
        content = bytearray(file.getvalue())
        place = content.index(struct.pack("<HHII", 262, 3, 1, 0))
        content[place + 8] = 1  # the same numbers, but black is zero
        assert greys(bytes(content)).tolist() == [255, 255, 255, 255]


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits"])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize(("kind", "top"), [(np.uint16, 4095), (np.float32, 1.2)])
def test_compressions_that_only_pillow_knows_give_the_same(
    compression, kind, top, white_is_zero: bool
) -> None:
    content = compressed(ramp(top, kind=kind), compression, 0 if white_is_zero else 1)
    expected = STEPS[::-1] if white_is_zero else STEPS
    np.testing.assert_allclose(greys(content), expected, atol=1)


def compressed(values: np.ndarray, compression: str, photometric: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression=compression, tiffinfo={262: photometric})
    return file.getvalue()


def test_whole_numbers_of_32_bits_in_a_compression_of_pillow_s() -> None:
    np.testing.assert_allclose(greys(compressed(ramp(4095, kind=np.int32), "tiff_lzw", 1)), STEPS, atol=1)


def test_a_compression_that_nobody_here_knows_is_named_with_what_does() -> None:
    reason = check(compressed(ramp(4095, kind=np.int32), "tiff_lzw", 0))
    assert reason == "int32 samples in LZW compression need: pip install imagecodecs"


def test_big_endian_numbers_that_pillow_would_turn_around_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = tiff(ramp(4095, kind=np.int16), byteorder=">", compression="zlib")
    np.testing.assert_allclose(greys(content), STEPS, atol=1)

    def no_codec(*args: object) -> None:
        raise images.tiffs.NoCodec("as it is for LZW")

    monkeypatch.setattr(images.tiffs, "read", no_codec)
    assert check(content) == "big-endian samples in this compression need: pip install imagecodecs"


def colours(top: float, kind: type) -> np.ndarray:
    """Red rises from left to right, green falls, blue stays at the middle."""
    rising = ramp(top, kind=kind)
    return np.dstack([rising, rising[:, ::-1], np.full_like(rising, top / 2)])


def assert_shows_the_colours(content: bytes, atol: float = 1) -> None:
    row = first_row(content)
    np.testing.assert_allclose(row[:, 0], STEPS, atol=atol)
    np.testing.assert_allclose(row[:, 1], STEPS[::-1], atol=atol)
    np.testing.assert_allclose(row[:, 2], 127, atol=atol)


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize(
    ("top", "kind"),
    [
        *[(1023, np.uint16), (4095, np.uint16), (65535, np.uint16), (2**32 - 1, np.uint32), (4095, np.int16)],
        *[(1, np.float32), (1.2, np.float32), (1, np.float64), (255, np.float32)],
    ],
)
def test_deep_colours_keep_their_proportions(top: float, kind: type, planes: str) -> None:
    values = colours(top, kind)
    values = np.moveaxis(values, -1, 0) if planes == "separate" else values
    assert_shows_the_colours(tiff(values, planarconfig=planes, photometric="rgb"))


@pytest.mark.parametrize("top", [1023, 4095, 65535])
def test_16_bit_colours_of_a_png_are_not_black(top: int) -> None:
    assert_shows_the_colours(png(colours(top, np.uint16)))


def test_dark_16_bit_colours_in_lzw_are_read_in_both_bytes() -> None:
    values = colours(4095, np.uint16)
    height, width = values.shape[:2]
    # a TIFF of one strip in LZW: nine-bit codes, the table cleared before each byte
    data = values.astype("<u2").tobytes()
    bits = "".join(f"{256:09b}{byte:09b}" for byte in data) + f"{257:09b}"
    packed = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 0), (259, 3, 1, 5), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 0), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(packed))]
    after = 8 + 2 + 12 * len(tags) + 4
    put = {258: after, 273: after + 6}
    entries = b"".join(
        struct.pack("<HHII", tag, kind, n, put.get(tag, value)) for tag, kind, n, value in tags
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    assert_shows_the_colours(head + struct.pack("<3H", 16, 16, 16) + packed)


def test_of_many_bands_the_first_three_are_red_green_and_blue() -> None:
    for kind, top in ((np.uint8, 255), (np.uint16, 4095), (np.float32, 1.2)):
        values = np.dstack([colours(top, kind), np.zeros((2, 52, 4), kind)])
        for planes, laid_out in (("contig", values), ("separate", np.moveaxis(values, -1, 0))):
            assert_shows_the_colours(tiff(laid_out, photometric="minisblack", planarconfig=planes))


def test_of_two_bands_the_first_is_grey() -> None:
    values = np.dstack([ramp(4095, kind=np.uint16), np.zeros((2, 52), np.uint16)])
    content = tiff(values, photometric="minisblack", planarconfig="contig")
    np.testing.assert_allclose(greys(content), STEPS, atol=1)


@pytest.mark.parametrize("top", [4095, 65535])
def test_transparent_parts_of_deep_pictures_are_white(top: int) -> None:
    grey = np.array([[[0, top], [top // 2, top], [0, 0], [0, top // 2], [top, top]]], np.uint16)
    assert greys(png(grey)).tolist() == pytest.approx([0, 127, 255, 128, 255], abs=1)
    rgba = np.dstack([np.repeat(grey[..., :1], 3, axis=2), grey[..., 1:]])
    for content in (png(rgba), tiff(rgba, extrasamples=["unassalpha"])):
        assert greys(content).tolist() == pytest.approx([0, 127, 255, 128, 255], abs=1)
    dimmed = rgba.copy()
    dimmed[..., :3] = rgba[..., :3] * (rgba[..., 3:] / top)
    content = tiff(dimmed, extrasamples=["assocalpha"])
    assert greys(content).tolist() == pytest.approx([0, 127, 255, 128, 255], abs=1)


def test_a_deep_colour_declared_transparent_is_white() -> None:
    assert greys(png(np.array([[0, 100, 4095]], np.uint16), transparent=[100])).tolist() == [0, 255, 255]
    dark = np.array([[[0, 0, 0], [100, 100, 100], [4095, 4095, 4095]]], np.uint16)
    assert greys(png(dark, transparent=[100, 100, 100])).tolist() == [0, 255, 255]


def test_numbers_that_are_none_do_not_spoil_the_range() -> None:
    values = ramp(1.2).astype(np.float32)
    values[1] = [np.nan, np.inf, -np.inf, *[0.6] * 49]
    shown = np.asarray(load(tiff(values)))[..., 0]
    np.testing.assert_allclose(shown[0], STEPS, atol=1)
    assert shown[1, :4].tolist() == pytest.approx([0, 255, 0, 127.5], abs=0.5)


def test_a_value_that_stands_for_no_measurement_does_not_spoil_the_range() -> None:
    values = ramp(1.2).astype(np.float32)
    values[1] = -9999
    shown = np.asarray(load(tiff(values, extratags=[(42113, "s", 0, "-9999", True)])))[..., 0]
    np.testing.assert_allclose(shown[0], STEPS, atol=1)
    assert shown[1].max() == 0


def test_pictures_of_one_camera_keep_their_relative_brightness() -> None:
    bright, dim = (
        load(tiff(np.full((2, 2), value, np.uint16))).getpixel((0, 0))[0] for value in (4000, 2100)
    )
    assert (bright, dim) == (249, 131)  # both of 4095


def test_noise_in_the_dark_stays_dark() -> None:
    assert greys(tiff(np.array([[0, 1, 2, 3]], np.uint16))).tolist() == [0, 1, 2, 3]
    assert value_range(np.array([0, 1e-9])) == (0, 1 / 256)


def test_a_picture_of_one_value_is_even() -> None:
    for value in (-3, 0, 0.5, 7, 1e9):
        assert len(set(greys(tiff(np.full((2, 2), value, np.float32))))) == 1


def test_a_large_picture_is_scaled_by_one_range_in_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(50, 30, 3))
    whole = to_8_bits(values)
    monkeypatch.setattr("vizsla.data.deep._AT_ONCE", 100)
    assert np.array_equal(to_8_bits(values), whole)


def test_deep_tiffs_come_out_upright() -> None:
    values = np.vstack([ramp(1.2), ramp(1.2)])
    for kind in (np.float32, np.float64):
        turned = load(tiff(values.astype(kind), extratags=[(274, "H", 1, 6, True)]))
        assert turned.size == (4, 52)
        np.testing.assert_allclose(np.asarray(turned)[:, 0, 0], STEPS, atol=1)


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        (np.ones((4, 4), np.complex64), {}, "no whole numbers or fractions"),
        (np.ones((4, 4, 3), np.uint16), {"photometric": "cielab"}, "TIFF of CIELAB in 3 × 16 bits"),
    ],
)
def test_what_has_no_sensible_rendering_is_named_with_the_reason(
    tmp_path: Path, values, options, reason
) -> None:
    path = tmp_path / "odd.tif"
    path.write_bytes(tiff(values, **options))
    assert reason in (check(path) or "")
    with pytest.raises(UnreadableImage, match=r"cannot read .*odd\.tif: "):
        load(path)


def test_cut_and_spoilt_deep_tiffs_are_one_error_with_the_path(tmp_path: Path, capfd) -> None:
    path = tmp_path / "cut.tif"
    rng = np.random.default_rng(0)
    for content in (tiff(colours(1, np.float32), compression="zlib"), tiff(ramp(4095, kind=np.uint16))):
        for _ in range(150):
            spoilt = bytearray(content[: rng.integers(4, len(content) + 1)])
            for place in rng.integers(4, len(spoilt) + 1, 3):
                spoilt[min(place, len(spoilt) - 1)] = rng.integers(256)
            path.write_bytes(spoilt)
            try:
                assert load(path).mode == "RGB"
            except UnreadableImage as error:
                assert str(error).startswith(f"cannot read {path}: ")
                assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")


def test_only_other_numbers_than_8_bits_count_as_deep() -> None:
    grey = Image.new("L", (4, 4))
    for kind in ("PNG", "TIFF", "JPEG", "GIF", "WEBP", "BMP"):
        file = io.BytesIO()
        grey.save(file, kind)
        assert not is_deep(file.getvalue())
    deep = [
        png(ramp(4095, kind=np.uint16)),
        png(colours(4095, np.uint16)),
        tiff(ramp(1)),
        tiff(ramp(9, kind=np.int8)),
    ]
    assert all(map(images.is_deep, deep))


def test_a_dataset_gives_what_load_gives(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(ramp(1.2)))
    image = IndexedDataset(tmp_path)[0][0]
    np.testing.assert_allclose(np.asarray(image)[0, :, 1], STEPS, atol=1)
