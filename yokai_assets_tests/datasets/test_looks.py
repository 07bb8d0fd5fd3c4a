"""What pixels say: unusable and unclean cut-outs are known, each for its reason."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from upath import UPath

from yokai_assets.datasets.looks import THUMBNAIL_PX, faults_of, read_looks, softness_of
from yokai_assets.datasets.selection import QualityLimits
from yokai_assets_tests.small_series import HERO, SmallSeries, scattered


@pytest.fixture
def series(tmp_path: Path) -> SmallSeries:
    made = SmallSeries(UPath(tmp_path))
    for number in range(8):
        made.show("e1", number, {HERO: scattered(number)})
    return made


def rewrite(series: SmallSeries, row: int, blur_px: float) -> None:
    path = series.layout.absolute(series.instances[row]["cutout"])
    cutout = Image.open(str(path)).convert("RGBA")
    cutout.putalpha(cutout.getchannel("A").filter(ImageFilter.GaussianBlur(blur_px)))
    cutout.save(str(path), lossless=True)


def test_smoke_is_no_cutout(series: SmallSeries) -> None:
    """Protects: a mask that never decides teaches a ghost; a soft edge is none."""
    rewrite(series, 2, blur_px=14)
    rewrite(series, 3, blur_px=0.7)
    series.layout.absolute(series.instances[5]["cutout"]).write_bytes(b"no picture")
    looks = read_looks(series.tables().instances, series.layout)
    assert faults_of(looks, QualityLimits()) == {"e1/000002/0": "soft_mask", "e1/000005/0": "unreadable"}


def test_a_character_of_fog_is_held_against_itself(series: SmallSeries) -> None:
    """Protects: a spirit whose every cut-out is half transparent can be trained."""
    for row in range(8):
        rewrite(series, row, blur_px=4)
    looks = read_looks(series.tables().instances, series.layout)
    assert min(look.softness for look in looks.values() if look) > 0.3
    assert faults_of(looks, QualityLimits()) == {}


def test_softness_counts_half_transparent_pixels() -> None:
    """Protects: the number means what the limits say."""
    alpha = np.zeros((20, 20), np.uint8)
    alpha[:10] = 255
    assert softness_of(alpha) == 0
    alpha[10:12] = 100
    assert softness_of(alpha) == pytest.approx(0.2)
    assert softness_of(np.zeros((4, 4), np.uint8)) == 0


def test_pictures_are_kept_small(series: SmallSeries) -> None:
    """Protects: four hundred cut-outs of a film in memory."""
    path = series.layout.absolute(series.instances[0]["cutout"])
    Image.new("RGBA", (900, 300), (1, 2, 3, 255)).save(str(path))
    series.instances[0] |= {"x0": 0, "x1": 900, "y0": 0, "y1": 300}
    look = read_looks(series.tables().instances, series.layout)["e1/000000/0"]
    assert look is not None and max(look.thumbnail.size) == THUMBNAIL_PX
