"""Training sets on disk: complete, readable by trainers, reproducible, and never half there."""

import json
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.datasets import DatasetResult, build_dataset, load_training_image
from yokai_assets.settings.model import DatasetSettings, GroundShares
from yokai_assets.tables import DATASET
from yokai_assets.training.buckets import place
from yokai_assets_tests.small_series import HERO, OTHER, SmallSeries, pixels_of, scattered

SETTINGS = DatasetSettings.model_validate(
    {
        "min_images": 4,
        "max_images": 12,
        "min_side_px": 16,
        "held_out_share": 0.2,
        "grounds": {"original": 1, "plain": 1, "plate": 0},
    }
)


def with_grounds(original: float = 0, plain: float = 0, plate: float = 0, transparent: float = 0, **other):
    """Return the settings with another mixture of grounds."""
    parts = {"original": original, "plain": plain, "plate": plate, "transparent": transparent}
    return SETTINGS.model_copy(update={"grounds": GroundShares(**parts), **other})


@pytest.fixture
def series(tmp_path) -> SmallSeries:
    made = SmallSeries(UPath(tmp_path))
    for number in range(18):
        made.show(f"e{number // 9 + 1}", number // 2, {HERO: scattered(number)})
    return made


def built(series: SmallSeries, settings: DatasetSettings = SETTINGS, seed: int = 0, **kwargs) -> DatasetResult:
    tables = series.tables()
    return build_dataset(
        HERO, tables.members, tables.instances, tables.frames, tables.embeddings, series.captions(),
        series.frames_source, series.layout, settings, seed, resolution_px=32, **kwargs,
    )  # fmt: skip


def files(folder: UPath) -> dict[str, bytes]:
    root = Path(str(folder))
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def test_every_row_has_its_files_and_every_file_its_row(series: SmallSeries) -> None:
    """Protects: the table is the folder; a trainer that globs and one that reads the table see the same."""
    result = built(series)
    assert result.table.schema == DATASET.schema
    train = result.table.filter(pl.col("split") == "train")
    held_out = result.table.filter(pl.col("split") == "held_out")
    assert train.height == 12
    assert held_out.height >= 2
    on_disk = {
        str(series.layout.relative(result.folder) + "/" + name)
        for name in files(result.folder)
        if name.endswith(".png")
    }
    assert on_disk == set(result.table["image"]) | set(result.table["mask"])
    directly = [p for p in result.folder.iterdir() if p.suffix == ".png"]
    assert len(directly) == train.height
    for row in result.table.iter_rows(named=True):
        text = series.layout.absolute(row["image"]).with_suffix(".txt").read_text()
        assert text.strip() == row["caption"]
        assert row["caption"].startswith("ykaitest, smile")


def test_images_and_masks_belong_together(series: SmallSeries) -> None:
    """Protects: the masked loss weighs the character, not what is beside it."""
    result = built(series)
    assert set(result.table["background"]) == {"original", "plain"}
    for row in result.table.iter_rows(named=True):
        image, mask = load_training_image(series.layout, row)
        assert (image.mode, mask.mode) == ("RGB", "L")
        assert image.size == mask.size == (row["width_px"], row["height_px"])
        assert 0.9 * 32 * 32 < image.width * image.height <= 32 * 32
        assert place(*image.size, 32, 8).scaled_width_px == image.width
        pixels, alpha = np.asarray(image).astype(int), np.asarray(mask)
        inside = pixels[alpha == 255]
        assert np.abs(inside - (210, 30, 30)).mean() < 12
        is_green = np.abs(pixels[alpha == 0] - (40, 140, 60)).mean() < 12
        assert is_green == (row["background"] == "original")


def test_plain_grounds_are_said_and_have_their_share(series: SmallSeries) -> None:
    """Protects: the ground is not bound to the trigger, and backgrounds stay mixed."""
    table = built(series).table
    for row in table.iter_rows(named=True):
        assert ("background" in row["caption"]) == (row["background"] == "plain")
    train = table.filter(pl.col("split") == "train")
    assert train.filter(pl.col("background") == "plain").height == 6
    all_plain = built(series, with_grounds(plain=1)).table
    assert set(all_plain["background"]) == {"plain"}


def test_opaque_pictures_are_not_said_to_stand_on_a_plain_ground(series: SmallSeries) -> None:
    """Protects: an imported picture with its own background does not teach `white background` a landscape."""
    for row in series.instances:
        file = series.layout.absolute(row["cutout"])
        Image.open(str(file)).convert("RGB").convert("RGBA").save(str(file), lossless=True)
    whole = with_grounds(plain=1, margin_share=0.0)
    table = built(series, whole).table
    assert set(table["background"]) == {"original"}
    assert not table["caption"].str.contains("background").any()


def test_no_shot_is_on_both_sides(series: SmallSeries) -> None:
    """Protects: held-out images measure the character, not a memorised frame."""
    table = built(series).table
    sides = {
        s: set(table.filter(pl.col("split") == s).select("episode", "shot").iter_rows()) for s in ("train", "held_out")
    }
    assert sides["train"]
    assert sides["held_out"]
    assert not sides["train"] & sides["held_out"]


def test_torn_shot_is_told(tmp_path) -> None:
    """Protects: whoever reads a flattering evaluation can learn why."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(16):
        series.show("e1", 3, {HERO: scattered(number)})
    result = built(series)
    held_out = result.table.filter(pl.col("split") == "held_out")["instance_id"]
    assert sorted(held_out) == ["e1/000013/0", "e1/000014/0", "e1/000015/0"]
    assert ["shot 3 of e1" in note for note in result.notes] == [True]


def test_equal_input_gives_equal_files(series: SmallSeries) -> None:
    """Protects: reproducibility; another seed gives another set."""
    first = files(built(series).folder)
    again = files(built(series).folder)
    assert first == again
    assert files(built(series, seed=1).folder) != first


def test_trainers_can_read_the_folder(series: SmallSeries) -> None:
    """Protects: the configuration of sd-scripts and the metadata of HF imagefolder name what is there."""
    result = built(series)
    config = tomllib.loads((result.folder / "dataset.toml").read_text())
    subset = config["datasets"][0]["subsets"][0]
    assert Path(subset["image_dir"]).is_absolute()
    assert Path(subset["image_dir"]).samefile(str(result.folder))
    assert config["general"]["keep_tokens"] == 1
    assert config["datasets"][0]["resolution"] == 32
    assert subset["num_repeats"] == 8  # 12 images, for an epoch of about a hundred
    assert [file.parent for file in result.folder.rglob("metadata.jsonl")] == [result.folder]  # imagefolder reads all
    sides = (("train", result.folder, "metadata.jsonl"), ("held_out", result.folder / "held_out", "records.jsonl"))
    for split, folder, name in sides:
        lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        assert len(lines) == result.table.filter(pl.col("split") == split).height
        for line in lines:
            assert (folder / line["file_name"]).exists()
            assert (folder / line["mask_file_name"]).exists()
            assert line["text"].startswith("ykaitest")
            assert line["cutout_sha256"] == pixels_of(line["instance_id"])


def test_stranger_in_the_crop_means_plain_ground(tmp_path) -> None:
    """Protects: another character is never learnt as part of this one."""
    series = SmallSeries(UPath(tmp_path))
    close = {HERO: (10, 12, 46, 52), OTHER: (40, 12, 76, 52)}
    for number in range(10):
        series.show("e1", number, {HERO: scattered(number), OTHER: scattered(100 + number)}, boxes=close)
    table = built(series, with_grounds(original=1)).table
    assert set(table["background"]) == {"plain"}
    for row in table.iter_rows(named=True):
        pixels = np.asarray(load_training_image(series.layout, row)[0]).astype(int)
        assert not ((pixels[..., 2] > 180) & (pixels[..., 0] < 90)).any()  # nothing of the blue one


def test_unreadable_frame_and_cutout(series: SmallSeries) -> None:
    """Protects: one damaged file costs at most its own image, and it is said."""
    frameless = with_grounds(original=1, max_images=18)
    sources = {frame["frame_id"]: frame["source"] for frame in series.frames}
    (series.frames_source / sources["e1/000002"]).write_bytes(b"no picture")
    series.layout.absolute(series.instances[5]["cutout"]).write_bytes(b"no picture")
    result = built(series, frameless)
    rows = {row["instance_id"]: row for row in result.table.iter_rows(named=True)}
    assert result.dropped_counts["unreadable"] == 1
    assert "e1/000005/0" not in rows
    assert rows["e1/000002/0"]["background"] == "plain"
    assert len(result.notes) == 2
    assert result.table.height == 17


def test_unusable_cutouts_are_replaced_by_the_next_best(series: SmallSeries) -> None:
    """Protects: a set does not shrink for files that are gone while others could take their places."""
    first = built(series)
    gone, damaged, resized = first.table.filter(pl.col("split") == "train")["instance_id"][:3]
    cutouts = {row["instance_id"]: series.layout.absolute(row["cutout"]) for row in series.instances}
    cutouts[gone].unlink()
    cutouts[damaged].write_bytes(cutouts[damaged].read_bytes()[:40])
    Image.new("RGBA", (5, 5)).save(str(cutouts[resized]), lossless=True)
    result = built(series)
    assert result.table.filter(pl.col("split") == "train").height == 12
    assert not {gone, damaged, resized} & set(result.table["instance_id"])
    assert result.dropped_counts["unreadable"] == 3
    assert ["3 cut-out(s)" in note and "`character_layers`" in note for note in result.notes] == [True]
    assert len(result.dropped) + result.table.height == 18


def test_removed_layers_of_an_episode_are_noticed_at_once(series: SmallSeries) -> None:
    """Protects: with an episode's cut-outs cleared away, the other episodes are trained on."""
    for file in series.layout.character_layers("e1").iterdir():
        file.unlink()
    result = built(series)
    assert set(result.table["episode"]) == {"e2"}
    assert result.dropped_counts["unreadable"] == 9
    assert "1 episode(s): e1" in result.notes[0]


def test_many_unreadable_frames_are_one_note(series: SmallSeries) -> None:
    """Protects: a disk that is not mounted is told once, with an example and a count."""
    for frame in series.frames:
        (series.frames_source / frame["source"]).unlink()
    result = built(series, with_grounds(original=1))
    assert set(result.table["background"]) == {"plain"}
    assert [note.startswith(f"{result.table.height} image(s)") for note in result.notes] == [True]


def test_too_few_images_are_flagged(series: SmallSeries) -> None:
    """Protects: a small character is skipped knowingly, with its reasons, not with an exception."""
    result = built(series, SETTINGS.model_copy(update={"min_images": 40, "max_images": 60}))
    assert result.is_too_small
    assert 0 < result.table.height <= 18
    assert not built(series).is_too_small


def test_nobody_left_gives_an_empty_set(series: SmallSeries) -> None:
    """Protects: a character whose images all fail does not keep yesterday's training set."""
    built(series)
    result = built(series, SETTINGS.model_copy(update={"min_side_px": 4000}))
    assert result.table.is_empty()
    assert result.is_too_small
    assert result.dropped_counts == {"too_small": 18}
    assert not [name for name in files(result.folder) if name.endswith((".png", ".txt"))]


def test_failure_midway_leaves_the_old_set(series: SmallSeries) -> None:
    """Protects: a half-written training set is never read."""

    class StopError(Exception):
        pass

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 3:
            raise StopError

    before = files(built(series).folder)
    with pytest.raises(StopError):
        built(series, seed=5, progress=stop)
    assert files(series.layout.training_data(HERO)) == before
    assert not [p for p in series.layout.training_data(HERO).parent.iterdir() if p.name.startswith(".")]


def test_changed_pixels_change_the_hash(series: SmallSeries) -> None:
    """Protects: caches keyed by the hash never serve another picture."""
    all_plain = with_grounds(plain=1, max_images=18)
    first = built(series, all_plain).table
    assert built(series, all_plain).table.equals(first)
    changed = series.layout.absolute(series.instances[4]["cutout"])
    lighter = Image.open(str(changed)).convert("RGBA")
    lighter.putpixel((18, 20), (0, 0, 0, 255))
    lighter.save(str(changed), lossless=True)
    second = built(series, all_plain).table
    differs = first.filter(first["image_sha256"] != second["image_sha256"])
    assert differs["instance_id"].to_list() == ["e1/000004/0"]


def test_missing_caption_is_an_error_with_its_remedy(series: SmallSeries) -> None:
    """Protects: no image is trained without its trigger."""
    tables = series.tables()
    with pytest.raises(ValueError, match="Materialize `captions`"):
        build_dataset(
            HERO, tables.members, tables.instances, tables.frames, tables.embeddings, series.captions().head(3),
            series.frames_source, series.layout, SETTINGS, 0, resolution_px=32,
        )  # fmt: skip


def test_missing_training_image_names_the_remedy(series: SmallSeries) -> None:
    """Protects: whoever deleted a file learns how to get it back."""
    row = built(series).table.row(0, named=True)
    series.layout.absolute(row["mask"]).unlink()
    with pytest.raises(FileNotFoundError, match="Materialize `training_dataset`"):
        load_training_image(series.layout, row)


def test_damaged_training_image_names_the_remedy(series: SmallSeries) -> None:
    """Protects: a PNG with a broken chunk is an `OSError` as promised, not a `SyntaxError` that stops the caller."""
    row = built(series).table.row(0, named=True)
    file = series.layout.absolute(row["image"])
    for position in range(8, 33):  # length, name, content and checksum of the first chunk
        data = bytearray(file.read_bytes())
        data[position] ^= 0x5A
        series.layout.absolute(row["image"]).with_suffix(".broken").write_bytes(bytes(data))
        broken = {**row, "image": row["image"].replace(".png", ".broken")}
        with pytest.raises(OSError, match="Materialize `training_dataset`"):
            load_training_image(series.layout, broken)


def test_progress_counts_images(series: SmallSeries) -> None:
    """Protects: whoever watches sees how far it is."""
    seen: list[tuple[int, int]] = []
    table = built(series, progress=lambda done, total, note="": seen.append((done, total))).table
    assert seen == [(n + 1, table.height) for n in range(table.height)]
    assert Counter(table["split"])["train"] == 12


def test_removed_layers_are_asked_for_and_the_set_is_the_same(series: SmallSeries) -> None:
    """Protects a set from being made of what retention has left: everything that is read is asked for first."""
    expected = built(series).table
    cutouts = {row["cutout"]: series.layout.absolute(row["cutout"]).read_bytes() for row in series.instances}
    for name in cutouts:
        series.layout.absolute(name).unlink()

    def restore(paths) -> None:
        for name in paths:
            series.layout.absolute(name).write_bytes(cutouts[name])

    assert built(series, restore=restore).table.equals(expected)
