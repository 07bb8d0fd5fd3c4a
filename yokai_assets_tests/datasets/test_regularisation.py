"""The shared regularisation set: scenery and everybody, each part to be left out by whom it shows."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.datasets import kohya
from yokai_assets.datasets.regularisation import RegularisationSet, build_regularisation, regularisation_parts
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import BACKGROUNDS
from yokai_assets_tests.small_series import HERO, OTHER, SmallSeries, scattered


@pytest.fixture
def series(tmp_path: Path) -> SmallSeries:
    made = SmallSeries(UPath(tmp_path))
    for number in range(6):
        made.show("e1", number, {HERO: scattered(number), OTHER: scattered(number + 50)})
    return made


def built(series: SmallSeries, count: int) -> RegularisationSet:
    rows = []
    for shot in range(8):
        plate = series.layout.background_layers("e1") / f"{shot}.webp"
        plate.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 64), (10 * shot, 90, 30)).save(str(plate), lossless=True)
        rows.append(
            {"episode": "e1", "shot": shot, "plate": series.layout.relative(plate), "frame_count": 3,
             "filled_share": 0.9 if shot == 7 else 0.1, "width_px": 96, "height_px": 64}
        )  # fmt: skip
    exemplars = {
        name: [r["cutout"] for r, m in zip(series.instances, series.members, strict=True) if m["character_id"] == name]
        for name in (HERO, OTHER)
    }
    return build_regularisation(exemplars, BACKGROUNDS.from_rows(rows), series.layout, count, 0, resolution_px=32)


def test_half_scenery_half_everybody(series: SmallSeries) -> None:
    """Protects: pictures and captions are there, scaled as training wants them, and no trigger is among the words."""
    result = built(series, 8)
    assert result.counts == {"scenery": 4, HERO: 2, OTHER: 2} and result.problems == ()
    folder = Path(str(result.folder))
    images = sorted(folder.rglob("*.png"))
    assert len(images) == 8
    for image in images:
        caption = image.with_suffix(".txt").read_text("utf-8")
        assert ("no characters" in caption) == (image.parent.name == "scenery") and "ykai" not in caption
        with Image.open(image) as picture:
            assert picture.mode == "RGB" and picture.width * picture.height <= 32 * 32
    red = np.asarray(Image.open(folder / HERO / "00000.png")).reshape(-1, 3).astype(int)
    assert (np.abs(red - (210, 30, 30)).sum(axis=1) < 30).any()


def test_a_character_is_not_regularised_with_itself(series: SmallSeries) -> None:
    """Protects: a trainer is never told that the character is anybody."""
    built(series, 8)
    parts = regularisation_parts(series.layout, HERO)
    assert [Path(part).name for part in parts] == [OTHER, "scenery"]
    config = tomllib.loads(kohya.dataset_toml("/set", "/set/masks", 512, 2, parts))
    first, *others = config["datasets"][0]["subsets"]
    assert "is_reg" not in first and first["num_repeats"] == 2
    assert [(s["image_dir"], s["is_reg"]) for s in others] == [(part, True) for part in parts]


def test_a_damaged_picture_is_left_out_and_told(series: SmallSeries) -> None:
    """Protects: one broken file does not cost the set."""
    series.layout.absolute(series.instances[0]["cutout"]).write_bytes(b"no picture")
    result = built(series, 8)
    assert result.counts[HERO] == 1 and len(result.problems) == 1 and "webp" in result.problems[0]


def test_nobody_asked_means_none(series: SmallSeries) -> None:
    """Protects: the set goes when the setting does."""
    assert Path(str(built(series, 4).folder)).exists()
    own = Path(str(series.layout.regularisation)) / "my own.png"
    own.write_bytes(b"mine")
    built(series, 4)
    assert built(series, 0).counts == {} and own.read_bytes() == b"mine"
    own.unlink()
    result = built(series, 0)
    assert result.counts == {} and not Path(str(result.folder)).exists()
    assert regularisation_parts(series.layout, HERO) == []


def test_parts_are_absolute_whatever_the_data_root(series: SmallSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: sd-scripts takes relative folders from where it is started."""
    built(series, 8)
    monkeypatch.chdir(str(series.root))
    parts = regularisation_parts(Layout(UPath("data"), "tiny"), HERO)
    assert len(parts) == 2 and all(Path(part).is_absolute() and Path(part).is_dir() for part in parts)
