"""Near-duplicates: near, but no duplicates."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from vizsla.data.duplicates import near_duplicate


def picture(seed: int = 0, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A smooth picture without symmetry."""
    rough = np.random.default_rng(seed).integers(40, 216, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean difference per channel, without regard to size and overall brightness."""
    a, b = (np.asarray(image.resize((32, 32)), np.float64) for image in (one, other))
    return float(np.abs(a / a.mean() - b / b.mean()).mean())


def test_a_copy_is_the_same_each_time_and_another_copy_or_image_another():
    image = picture()
    first = near_duplicate(image, 1)
    assert first.tobytes() == near_duplicate(image.copy(), 1).tobytes()
    assert len({near_duplicate(image, copy).tobytes() for copy in range(1, 9)}) == 8
    assert near_duplicate(picture(1), 1).size != first.size or near_duplicate(picture(1), 1) != first


def test_copies_lie_nearer_to_their_image_than_any_other_image_does():
    images = [picture(seed) for seed in range(12)]
    for number, image in enumerate(images):
        for copy in (1, 2, 3, 4):
            changed = near_duplicate(image, copy)
            near = min(distance(changed, image), distance(ImageOps.mirror(changed), image))
            others = [distance(changed, other) for other in images[:number] + images[number + 1 :]]
            assert 0 < near < min(others)


def test_about_half_the_copies_are_mirrored():
    image = picture()
    mirrored = sum(
        distance(ImageOps.mirror(changed), image) < distance(changed, image)
        for changed in (near_duplicate(image, copy) for copy in range(1, 101))
    )
    assert 30 <= mirrored <= 70


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (16, 16)])
def test_small_and_narrow_images_keep_at_least_a_pixel(size):
    width, height = near_duplicate(picture(size=size), 2).size
    assert 0.85 * size[0] <= width <= size[0]
    assert 0.85 * size[1] <= height <= size[1]
