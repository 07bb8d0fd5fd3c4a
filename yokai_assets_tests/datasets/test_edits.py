"""What people change in a training folder survives every later set, and can be forgotten again."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from upath import UPath

from yokai_assets.datasets import (
    DatasetResult,
    EditsError,
    build,
    build_dataset,
    edits_fingerprint,
    load_training_image,
)
from yokai_assets.datasets.edits import edits_folder, forget, read_edits
from yokai_assets.settings.model import DatasetSettings
from yokai_assets.storage import folders
from yokai_assets.storage.layout import Layout
from yokai_assets_tests.small_series import HERO, SmallSeries, pixels_of, scattered

SETTINGS = DatasetSettings.model_validate({"min_images": 4, "max_images": 12, "min_side_px": 16, "held_out_share": 0.2})


@pytest.fixture
def series(tmp_path: Path) -> SmallSeries:
    made = SmallSeries(UPath(tmp_path))
    for number in range(18):
        made.show(f"e{number // 9 + 1}", number // 2, {HERO: scattered(number)})
    return made


def built(series: SmallSeries, **kwargs) -> DatasetResult:
    tables = series.tables()
    return build_dataset(
        HERO, tables.members, tables.instances, tables.frames, tables.embeddings, series.captions(),
        series.frames_source, series.layout, SETTINGS, 0, resolution_px=32, **kwargs,
    )  # fmt: skip


def row_of(result: DatasetResult, instance_id: str) -> dict:
    return result.table.filter(instance_id=instance_id).row(0, named=True)


def first_images(series: SmallSeries, result: DatasetResult, count: int) -> list[tuple[str, Path]]:
    rows = result.table.filter(split="train").head(count)
    return [(r["instance_id"], Path(str(series.layout.absolute(r["image"])))) for r in rows.iter_rows(named=True)]


def test_a_rewritten_caption_stays(series: SmallSeries) -> None:
    """Protects: an evening of correcting `.txt` files is not lost with the next run, nor the one after that."""
    (name, image), *_ = first_images(series, built(series), 1)
    image.with_suffix(".txt").write_text("ykaitest,\nmy own words\n", "utf-8")
    for _ in range(2):
        result = built(series)
        assert row_of(result, name)["caption"] == "ykaitest, my own words"
        assert image.with_suffix(".txt").read_text("utf-8") == "ykaitest, my own words\n"
    assert result.edits.captions == {pixels_of(name): "ykaitest, my own words"}
    image.with_suffix(".txt").unlink()
    assert row_of(built(series), name)["caption"].startswith("ykaitest, smile")


def test_a_deleted_image_stays_out_and_another_takes_its_place(series: SmallSeries) -> None:
    """Protects: deleting a bad picture is how people curate; it must not come back."""
    first = built(series)
    (name, image), *_ = first_images(series, first, 1)
    image.unlink()
    for _ in range(2):
        result = built(series)
        assert name not in result.table["instance_id"].to_list()
        assert result.dropped[name] == "removed"
    assert result.table.filter(split="train").height == 12
    folder = Path(str(result.folder))
    assert not list(folder.glob(f"{image.stem}*")) and not list((folder / "masks").glob(f"{image.stem}*"))
    forget(series.layout, HERO, {pixels_of(name)})
    assert built(series).table.equals(first.table)


def test_clearing_the_folder_is_no_judgement(series: SmallSeries) -> None:
    """Protects: whoever removes all images to save space gets them back."""
    first = built(series)
    for image in Path(str(first.folder)).rglob("*.png"):
        image.unlink()
    assert built(series).table.equals(first.table)
    assert read_edits(series.layout, HERO).removed == {}


def test_a_retouched_image_stays_as_it_is(series: SmallSeries) -> None:
    """Protects: paintwork on a training image; also where the picture was made larger."""
    (name, image), *_ = first_images(series, built(series), 1)
    Image.new("RGB", (64, 48), (1, 2, 250)).save(image)
    for _ in range(2):
        result = built(series)
        row = row_of(result, name)
        picture, mask = load_training_image(series.layout, row)
        assert picture.getpixel((5, 5)) == (1, 2, 250)
        assert picture.size == mask.size == (row["width_px"], row["height_px"]) == (64, 48)


def test_files_of_ones_own_are_never_deleted(series: SmallSeries) -> None:
    """Protects: notes, pictures and caches of other trainers beside ours; also one whose name is needed."""
    result = built(series)
    folder = Path(str(result.folder))
    (folder / "notes").mkdir()
    (folder / "notes" / "todo.md").write_text("smile more")
    (folder / "my own.png").write_bytes(b"not even a picture")
    again = built(series)
    assert (folder / "notes" / "todo.md").read_text() == "smile more"
    assert (folder / "my own.png").read_bytes() == b"not even a picture"
    assert again.own_file_count == 2 and again.table.equals(result.table)
    (folder / "files.json").unlink()  # now nothing but names tells what is ours
    third = built(series)
    assert (folder / "my own.png").exists() and third.table.equals(result.table)
    assert third.own_file_count == 2


def test_old_files_of_ours_disappear(series: SmallSeries) -> None:
    """Protects: an image that is not chosen any more is not trained on by a trainer that globs."""
    gone = first_images(series, built(series), 1)[0][1]
    series.instances = [row for row in series.instances if row["instance_id"].replace("/", "_") != gone.stem]
    built(series)
    assert not gone.exists() and not gone.with_suffix(".txt").exists()


def test_the_fingerprint_sees_edits_and_nothing_else(series: SmallSeries) -> None:
    """Protects: `yokai run` makes a set anew when somebody edited it, and only then."""
    (_, image), *_ = first_images(series, built(series), 1)
    before = edits_fingerprint(series.layout, HERO)
    built(series)
    (image.parent / "a file of mine.txt").write_text("x")
    assert edits_fingerprint(series.layout, HERO) == before
    image.with_suffix(".txt").write_text("ykaitest, other words\n", "utf-8")
    edited = edits_fingerprint(series.layout, HERO)
    assert edited != before
    built(series)
    settled = edits_fingerprint(series.layout, HERO)
    assert settled not in (before, edited)
    built(series)
    assert edits_fingerprint(series.layout, HERO) == settled


def test_an_edit_made_while_the_set_is_written_is_kept(series: SmallSeries) -> None:
    """Protects: the folder is swapped under the editor's hands; what was saved before the swap is not lost."""
    (name, image), *_ = first_images(series, built(series), 1)

    def edit(done: int, _total: int, _note: str = "") -> None:
        if done == 5:
            image.with_suffix(".txt").write_text("ykaitest, in the last second", "utf-8")

    assert row_of(built(series, progress=edit), name)["caption"].startswith("ykaitest, smile")
    assert row_of(built(series), name)["caption"] == "ykaitest, in the last second"


def test_clearing_only_the_training_images_is_no_judgement(series: SmallSeries) -> None:
    """Protects: `rm *.png` leaves the held-out ones; it must not take every training image out for ever."""
    first = built(series)
    for image in Path(str(first.folder)).glob("*.png"):
        image.unlink()
    assert built(series).table.equals(first.table)
    assert read_edits(series.layout, HERO).counts == {}


def test_whatever_lies_there_stays_as_it_is(series: SmallSeries, tmp_path: Path) -> None:
    """Protects: links, empty folders, odd names, times and modes of people's own files."""
    folder = Path(str(built(series).folder))
    (folder / "mine.tmp").write_text("x")
    (folder / "empty").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("a")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    script = folder / "train.sh"
    script.write_text("#!/bin/sh")
    script.chmod(0o755)
    os.utime(script, (1_000_000, 1_000_000))
    for _ in range(2):
        built(series)
        assert (folder / "mine.tmp").read_text() == "x" and (folder / "empty").is_dir()
        assert (folder / "link").is_symlink() and (folder / "link" / "a.txt").exists()
        assert (folder / "dangling").is_symlink()
        assert script.stat().st_mode & 0o777 == 0o755 and script.stat().st_mtime == 1_000_000


def test_masks_and_config_are_ones_own_too(series: SmallSeries) -> None:
    """Protects: batch size in `dataset.toml`, which says that it may be edited, and repainted masks."""
    result = built(series)
    folder = Path(str(result.folder))
    row = result.table.filter(split="train").row(0, named=True)
    mask = Path(str(series.layout.absolute(row["mask"])))
    Image.new("L", (row["width_px"], row["height_px"]), 200).save(mask)
    config = (folder / "dataset.toml").read_text().replace("batch_size = 2", "batch_size = 9")
    (folder / "dataset.toml").write_text(config)
    (folder / "metadata.jsonl").write_text("mine")
    for _ in range(2):
        result = built(series)
        assert (folder / "dataset.toml").read_text() == config
        assert Image.open(mask).getextrema() == (200, 200)
        assert (folder / "metadata.jsonl.yours").read_text() == "mine"
    assert result.edits.counts == {"masks": 1, "dataset.toml": 1}


def test_what_cannot_be_understood_stays_beside(series: SmallSeries) -> None:
    """Protects: a half-saved picture and a caption in another encoding are not overwritten."""
    (_, first), (other, second), (third_name, third) = first_images(series, built(series), 3)
    first.write_bytes(b"half saved")
    second.with_suffix(".txt").write_bytes("ykaitest, café".encode("cp1252"))
    third.with_suffix(".txt").write_bytes("ykaitest, café".encode("utf-16"))
    for _ in range(2):
        result = built(series)
        assert first.with_name(f"{first.name}.yours").read_bytes() == b"half saved"
        assert second.with_name(f"{second.stem}.txt.yours").read_bytes().endswith(b"caf\xe9")
    with Image.open(first) as picture:
        picture.load()
    assert row_of(result, other)["caption"].startswith("ykaitest, smile")
    assert row_of(result, third_name)["caption"] == "ykaitest, café"


def test_what_is_made_transparent_is_masked(series: SmallSeries) -> None:
    """Protects: erasing a stranger from a picture erases it from what is learnt."""
    (name, image), *_ = first_images(series, built(series), 1)
    picture = Image.new("RGBA", (20, 10), (9, 200, 9, 255))
    picture.paste((9, 9, 200, 0), (0, 0, 10, 10))
    picture.save(image)
    row = row_of(built(series), name)
    shown, mask = load_training_image(series.layout, row)
    assert mask.getpixel((2, 5)) == 0 and mask.getpixel((15, 5)) == 255
    assert shown.getpixel((2, 5)) != (9, 9, 200) and shown.getpixel((15, 5)) == (9, 200, 9)


def test_edits_that_no_run_has_seen_can_be_forgotten(series: SmallSeries) -> None:
    """Protects: a slip is undone at once, not found again by the next run."""
    first = built(series)
    (name, image), (other, second), *_ = first_images(series, first, 3)
    image.unlink()
    second.with_suffix(".txt").write_text("oops")
    forget(series.layout, HERO, {pixels_of(name), pixels_of(other)})
    result = built(series)
    assert result.table.equals(first.table) and result.edits.counts == {}


def test_sets_of_older_versions_are_replaced(series: SmallSeries) -> None:
    """Protects: after an upgrade no old image is trained on, and no old `metadata.jsonl` gives away held-out ones."""
    folder = Path(str(built(series).folder))
    (folder / "files.json").unlink()
    (folder / "held_out" / "metadata.jsonl").write_text("{}")
    series.instances = series.instances[:8]
    result = built(series)
    on_disk = {path.name for path in folder.glob("*.png")}
    assert on_disk == {Path(image).name for image in result.table.filter(split="train")["image"]}
    assert not (folder / "held_out" / "metadata.jsonl").exists() and result.own_file_count == 0


def test_an_upload_that_broke_off_is_nobodys_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: on an object store, a lost connection does not take images out for ever."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(18):
        series.show(f"e{number // 9 + 1}", number // 2, {HERO: scattered(number)})
    local = series.layout
    remote = UPath(f"memory://{tmp_path.name}/data")
    for file in Path(str(local.root)).rglob("*.webp"):
        target = remote / file.relative_to(str(local.root)).as_posix()
        target.write_bytes(file.read_bytes())
    series.layout = Layout(remote, local.series)
    first = built(series)
    (first.folder / "mine.txt").write_text("x")
    put, count = folders._put, [0]

    def lost(file: Path, target: UPath) -> None:
        count[0] += 1
        if count[0] > 4:
            raise ConnectionError
        put(file, target)

    monkeypatch.setattr(folders, "_put", lost)
    series.instances = series.instances[3:]
    with pytest.raises(ConnectionError):
        built(series)
    monkeypatch.setattr(folders, "_put", put)
    result = built(series)
    assert result.edits.counts == {} and result.own_file_count == 1
    assert result.table.height == 15
    there = {path.name for path in result.folder.iterdir() if path.name.endswith(".png")}
    assert there == {Path(image).name for image in result.table.filter(split="train")["image"]}
    assert (result.folder / "mine.txt").read_text() == "x"


def test_a_retouch_while_the_set_is_written_is_seen_next_time(series: SmallSeries) -> None:
    """Protects: the set of this run is not taken for one that has it."""
    (_, image), *_ = first_images(series, built(series), 1)

    def edit(done: int, _total: int, _note: str = "") -> None:
        if done == 5:
            Image.new("RGB", (64, 48), (1, 2, 250)).save(image)

    result = built(series, progress=edit)
    assert edits_fingerprint(series.layout, HERO) != result.edits_fingerprint
    again = built(series)
    assert edits_fingerprint(series.layout, HERO) == again.edits_fingerprint
    assert Image.open(image).size == (64, 48)


def test_what_is_saved_while_folders_are_swapped_is_kept(series: SmallSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: the last instant, when the new set is complete and the old folder still open in an editor."""
    (name, image), *_ = first_images(series, built(series), 1)
    carry, calls = build.carry_over, [0]

    def late(folder, target: Path, kept) -> int:
        found = carry(folder, target, kept)
        calls[0] += 1
        if calls[0] == 1:
            image.with_suffix(".txt").write_text("ykaitest, at the last instant")
            (image.parent / "note.md").write_text("late")
        return found

    monkeypatch.setattr(build, "carry_over", late)
    built(series)
    assert (image.parent / "note.md").read_text() == "late"
    assert row_of(built(series), name)["caption"] == "ykaitest, at the last instant"


def test_damaged_edits_are_an_error_that_names_the_file(series: SmallSeries) -> None:
    """Protects: kept edits are not thrown away because a file cannot be read."""
    built(series)
    path = edits_folder(series.layout, HERO) / "dataset.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"removed": 3}))
    with pytest.raises(EditsError, match=r"dataset\.json.*remove it to forget"):
        built(series)
