"""Fades and dissolves are known; pans, zooms, flashes and dim shots are not taken for them."""

import numpy as np
import pytest
from PIL import Image

from yokai_assets.frames.shots import Cutting, cut_shots
from yokai_assets_tests.frames.pictures import scene, with_disc, with_grain
from yokai_assets_tests.frames.test_grouping import prints_of

SIZE = 320, 180


def cutting(pictures: list[Image.Image]) -> Cutting:
    grainy = [with_grain(picture, number, 2) for number, picture in enumerate(pictures)]
    dhash, fields, luma = prints_of(grainy)
    return cut_shots(dhash, fields, luma.astype(np.float32), luma >= 12, 16)


def towards(picture: Image.Image, level: int, shares: np.ndarray) -> list[Image.Image]:
    ground = Image.new("RGB", picture.size, (level,) * 3)
    return [Image.blend(ground, picture, float(share)) for share in shares]


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("step_count", [3, 24])
def test_fades(level: int, step_count: int) -> None:
    """Protects: frames of half a picture are not segmented, at few frames a second as at many."""
    one, other = scene(1, *SIZE), scene(2, *SIZE)
    shares = np.linspace(1, 0.1, step_count)
    pictures = [*[one] * 4, *towards(one, level, shares), *towards(other, level, shares[::-1]), *[other] * 4]
    found = cutting(pictures)
    faded = np.flatnonzero(found.is_faded)
    assert faded.min() >= 4 + 1 and faded.max() < len(pictures) - 5
    whole = [n for n, share in enumerate(np.concatenate([shares, shares[::-1]]), start=4) if share >= 0.85]
    torn = [n for n, share in enumerate(np.concatenate([shares, shares[::-1]]), start=4) if 0.2 <= share <= 0.7]
    assert not found.is_faded[whole].any()
    assert found.is_faded[torn].all()
    middle = 4 + step_count
    assert len(set(found.shot[:4])) == len(set(found.shot[-4:])) == 1
    assert found.shot[0] == found.shot[middle - 2] and found.shot[middle + 1] == found.shot[-1] != found.shot[0]


@pytest.mark.parametrize("length", [2, 5, 12, 30])
def test_dissolves(length: int) -> None:
    """Protects: one cut, in the middle; what is whole stays, what is mixed is known."""
    one, other = scene(1, *SIZE), scene(2, *SIZE)
    shares = np.linspace(0, 1, length + 2)[1:-1]
    pictures = [*[one] * 6, *[Image.blend(one, other, float(share)) for share in shares], *[other] * 6]
    found = cutting(pictures)
    assert set(found.shot) == {0, 1}
    assert not found.is_faded[:6].any() and not found.is_faded[-6:].any()
    assert found.is_faded[6:-6].sum() >= length * 0.8
    assert abs(int(np.argmax(found.shot)) - (6 + length / 2)) <= 1


def test_camera_and_people_are_no_transition() -> None:
    """Protects: a pan, a zoom and somebody who walks by stay usable frames of one shot each."""
    wide = scene(4, 960, 180)
    pan = [wide.crop((x, 0, x + 320, 180)) for x in range(0, 640, 16)]
    place = scene(5, *SIZE)
    zoom = [place.crop((n, n * 9 // 16, 320 - n, 180 - n * 9 // 16)).resize(SIZE) for n in range(0, 100, 4)]
    walk = [with_disc(place, (x, 90), 50, (250, 240, 230)) for x in range(-40, 360, 16)]
    for pictures in (pan, zoom, walk):
        assert not cutting(pictures).is_faded.any()


def test_a_cut_from_night_to_day_is_no_fade() -> None:
    """Protects: a dim shot before the same place in light, and a lamp switched on, keep all their frames."""
    day = scene(6, *SIZE)
    night = towards(day, 0, np.array([0.35]))[0]
    found = cutting([*[night] * 5, *[day] * 5])
    assert not found.is_faded.any()


def test_a_hard_cut_is_no_dissolve() -> None:
    """Protects: neighbours of a cut, and a single foreign frame between two shots, are whole pictures."""
    found = cutting([*[scene(1, *SIZE)] * 5, scene(3, *SIZE), *[scene(2, *SIZE)] * 5])
    assert not found.is_faded.any()
    assert found.shot.tolist() == [0] * 5 + [1] + [2] * 5
