"""What people change in a training folder survives every later set, and can be forgotten again."""

import json
from pathlib import Path

import pytest
from PIL import Image
from upath import UPath

from yokai_assets.datasets import DatasetResult, EditsError, build_dataset, edits_fingerprint, load_training_image
from yokai_assets.datasets.edits import edits_folder, forget, read_edits, write_edits
from yokai_assets.settings.model import DatasetSettings
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
    write_edits(forget(result.edits, [pixels_of(name)]), series.layout, HERO)
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
    (folder / "files.json").unlink()  # now nothing is known to be ours
    third = built(series)
    assert (folder / "my own.png").exists() and third.table.equals(result.table)
    assert (folder / "dataset.toml.yours").exists()


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


def test_damaged_edits_are_an_error_that_names_the_file(series: SmallSeries) -> None:
    """Protects: kept edits are not thrown away because a file cannot be read."""
    built(series)
    path = edits_folder(series.layout, HERO) / "dataset.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"removed": 3}))
    with pytest.raises(EditsError, match=r"dataset\.json.*remove it to forget"):
        built(series)
