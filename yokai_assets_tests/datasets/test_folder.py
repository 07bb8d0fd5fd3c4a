"""Reading a folder of training images that anybody may have made: every layout, and whatever is wrong in it."""

import os
from pathlib import Path

import pytest
from PIL import Image
from upath import UPath

from yokai_assets.datasets.folder import TrainingFolderError, read_training_folder
from yokai_assets.training.images import read_item
from yokai_assets_tests.datasets.folders import (
    captions,
    held_out,
    picture,
    reasons,
    save,
    save_mask,
    write_lines,
    write_own,
)


def test_flat_folder_with_texts(tmp_path: Path) -> None:
    """Protects: the commonest folder of all is read as it is, in natural order, and nothing is complained of."""
    for number in (10, 2, 1):
        save(tmp_path / f"img{number}.png", number, f"zkr, pose {number}\n")
    found = read_training_folder(tmp_path)
    assert captions(found) == {"img1.png": "zkr, pose 1", "img2.png": "zkr, pose 2", "img10.png": "zkr, pose 10"}
    assert [item.item_id for item in found.items] == ["img1.png", "img2.png", "img10.png"]
    assert {(item.split, item.repeats, item.mask) for item in found.items} == {("train", 1, None)}
    assert (found.trigger, found.problems, found.skipped) == ("zkr", [], {})


@pytest.mark.parametrize(
    "name", ["a.png", "a.JPG", "a.jpeg", "a.jpe", "a.jfif", "a.webp", "a.bmp", "a.gif", "a.tif", "a.TIFF", "a.avif"]
)
def test_image_formats(tmp_path: Path, name: str) -> None:
    """Protects: no image is passed over in silence for its suffix, or the suffix's case."""
    suffix = name.lower().rpartition(".")[2]
    kind = {"jpe": "jpeg", "jfif": "jpeg", "jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)
    picture(1).save(tmp_path / name, kind)
    found = read_training_folder(tmp_path, trigger="zkr")
    assert captions(found) == {name: "zkr"}
    assert read_item(found.items[0])[0].size == (96, 80)


def test_files_that_are_no_images_are_ignored(tmp_path: Path) -> None:
    """Protects: caches, thumbnails and the litter of file managers are neither trained on nor reported."""
    save(tmp_path / "a.png", 1)
    save(tmp_path / ".hidden.png", 2)
    for name in ("._a.png", "a.npz", "a_sd.npz", "Thumbs.db", "desktop.ini", "notes.md", ".DS_Store"):
        (tmp_path / name).write_bytes(b"litter")
    found = read_training_folder(tmp_path, trigger="zkr")
    assert captions(found) == {"a.png": "zkr"}
    assert not found.problems


def test_images_of_one_stem_are_both_kept(tmp_path: Path) -> None:
    """Protects: a.png and a.jpg are two images with ids of their own."""
    save(tmp_path / "a.png", 1, "zkr, sitting")
    save(tmp_path / "a.jpg", 2)
    assert captions(read_training_folder(tmp_path)) == {"a.jpg": "zkr, sitting", "a.png": "zkr, sitting"}


def test_kohya_folders(tmp_path: Path) -> None:
    """Protects: repeats are honoured, and class tokens are the caption of images without a text, as in sd-scripts."""
    save(tmp_path / "10_zkr dog" / "a.png", 1)
    save(tmp_path / "10_zkr dog" / "b.png", 2, "zkr dog, asleep")
    save(tmp_path / "2_zkr portrait" / "a.png", 3)
    found = read_training_folder(tmp_path)
    assert captions(found) == {
        "2_zkr portrait/a.png": "zkr portrait",
        "10_zkr dog/a.png": "zkr dog",
        "10_zkr dog/b.png": "zkr dog, asleep",
    }
    assert [item.repeats for item in found.items] == [2, 10, 10]
    assert (found.trigger, found.problems) == ("zkr", [])


def test_class_tokens_that_differ_give_no_trigger(tmp_path: Path) -> None:
    """Protects: a folder of two characters is not said to have one trigger."""
    save(tmp_path / "10_zkr dog" / "a.png", 1)
    save(tmp_path / "2_mlv cat" / "a.png", 2)
    assert read_training_folder(tmp_path).trigger is None


def test_captions_without_the_class_tokens_are_told(tmp_path: Path) -> None:
    """Protects: a trigger that no caption has is never trained, which nobody sees before the LoRA is done."""
    save(tmp_path / "10_zkr dog" / "a.png", 1, "a dog, sitting")
    found = read_training_folder(tmp_path)
    assert found.trigger == "zkr"
    assert "--trigger zkr" in reasons(found)["10_zkr dog/a.png"]


def test_foreign_metadata(tmp_path: Path) -> None:
    """Protects: HF imagefolder sets, with `text` or `caption`, masks of any name, and images in sub-folders."""
    for number, name in enumerate(["a.png", "b.png", "images/c.png", "plain.png"]):
        save(tmp_path / name, number)
    save_mask(tmp_path / "alpha" / "b_mask.png")
    write_lines(
        tmp_path / "metadata.jsonl",
        {"file_name": "a.png", "text": "zkr, one"},
        {"file_name": "b.png", "caption": "zkr, two", "mask_file_name": "alpha/b_mask.png"},
        {"file_name": "images\\c.png", "text": None, "caption": "zkr, three"},
        {"file_name": "missing.png", "text": "zkr"},
    )
    found = read_training_folder(tmp_path)
    assert captions(found) == {"a.png": "zkr, one", "b.png": "zkr, two", "images/c.png": "zkr, three"}
    assert found.items[1].mask == UPath(tmp_path / "alpha" / "b_mask.png")
    assert "--trigger" in reasons(found)["plain.png"]
    assert found.skipped == {"no caption": 1, "gone": 1}


def test_damaged_metadata_lines_are_named(tmp_path: Path) -> None:
    """Protects: one bad line costs one caption, and is found by its number; nothing outside the folder is opened."""
    save(tmp_path / "a.png", 1)
    save(tmp_path.parent / "outside.png", 1)
    write_lines(
        tmp_path / "metadata.jsonl",
        '{"file_name": "b.png", "te',
        "[1, 2]",
        {"file_name": "a.png", "text": "zkr,\u2028one"},
        {"text": "no name"},
        {"file_name": "../outside.png", "text": "zkr"},
        {"file_name": "a.png", "text": 7},
    )
    found = read_training_folder(tmp_path)
    assert captions(found) == {"a.png": "zkr, one"}
    assert sorted(reasons(found)) == [f"metadata.jsonl, line {number}" for number in (1, 2, 4, 5, 6)]


def test_own_layout(tmp_path: Path) -> None:
    """Protects: a set of ours is trained on as it is: its split, its masks, and nothing in it complained of."""
    write_own(tmp_path)
    found = read_training_folder(tmp_path, held_out_share=0.5)
    assert (found.problems, found.skipped) == ([], {})
    assert captions(found)["episode_001_000003_0.png"] == "zqkaro, tag 3"
    assert held_out(found) == {f"held_out/episode_001_00000{number}_0.png" for number in (6, 7)}
    assert len(found.items) == 8
    for item in found.items:
        mask = read_item(item)[1]
        assert mask is not None
        assert mask.getextrema() == (200, 200)


def test_own_layout_edited_by_hand(tmp_path: Path) -> None:
    """Protects: rewritten texts win, a deleted or emptied one is the automatic one again, deleted images are gone."""
    write_own(tmp_path)
    stems = [f"episode_001_00000{number}_0" for number in range(4)]
    (tmp_path / f"{stems[0]}.txt").write_text("zqkaro, mine", "utf-8")
    (tmp_path / f"{stems[1]}.txt").unlink()
    (tmp_path / f"{stems[2]}.txt").write_text(" \n", "utf-8")
    (tmp_path / f"{stems[3]}.png").unlink()
    (tmp_path / "held_out" / "episode_001_000007_0.png").unlink()
    found = read_training_folder(tmp_path)
    told = captions(found)
    assert [told.get(f"{stem}.png") for stem in stems] == ["zqkaro, mine", "zqkaro, tag 1", "zqkaro, tag 2", None]
    assert (len(found.items), len(held_out(found))) == (6, 1)
    assert (found.problems, found.skipped) == ([], {"gone": 2})


def test_masks_beside_images(tmp_path: Path) -> None:
    """Protects: people's masks are used in every layout, and never trained on as images themselves."""
    save(tmp_path / "a.jpg", 1)
    save(tmp_path / "b.jpg", 2)
    save(tmp_path / "3_zkr" / "c.png", 3)
    save_mask(tmp_path / "masks" / "a.png")
    save_mask(tmp_path / "b-masklabel.png")
    save_mask(tmp_path / "3_zkr" / "masks" / "c.webp")
    found = read_training_folder(tmp_path, trigger="zkr")
    assert [(item.item_id, item.mask and item.mask.name) for item in found.items] == [
        ("3_zkr/c.png", "c.webp"),
        ("a.jpg", "a.png"),
        ("b.jpg", "b-masklabel.png"),
    ]
    assert not found.problems


def test_broken_images_are_left_out_and_named(tmp_path: Path) -> None:
    """Protects: one broken file neither stops a training nor goes into it; the user learns which, and why."""
    save(tmp_path / "good.png", 1)
    whole = save(tmp_path / "truncated.png", 2).read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.png").write_text("<html>not found</html>")
    save(tmp_path / "narrow.png", 3, width_px=31)
    for number, name in enumerate(["misfit", "maskless", "blank"]):
        save(tmp_path / f"{name}.png", 4 + number)
    save_mask(tmp_path / "masks" / "misfit.png", width_px=95)
    Image.new("L", (96, 80)).save(tmp_path / "masks" / "blank.png")
    write_lines(tmp_path / "metadata.jsonl", {"file_name": "maskless.png", "mask_file_name": "masks/maskless.png"})
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    found = read_training_folder(tmp_path, trigger="zkr")
    assert captions(found) == {"good.png": "zkr"}
    told = reasons(found)
    assert "is empty (0 bytes)" in told["empty.png"]
    assert "no image" in told["page.png"]
    assert "damaged" in told["truncated.png"]
    assert "31 x 80 px" in told["narrow.png"]
    assert "mask misfit.png does not fit" in told["misfit.png"]
    assert "mask maskless.png cannot be opened" in told["maskless.png"]
    assert "black all over" in told["blank.png"]
    assert "cannot be opened" in told["loop.png"]
    assert found.skipped == {"unreadable": 6, "too small": 1, "empty mask": 1}
    assert not any(str(tmp_path) in reason for reason in told.values())


def test_pixel_bomb_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: a tiny file that unpacks to gigabytes does not take the machine's memory."""
    save(tmp_path / "a.png", 1)
    Image.new("1", (2000, 2000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    found = read_training_folder(tmp_path, trigger="zkr")
    assert captions(found) == {"a.png": "zkr"}
    assert "bomb.png" in reasons(found)


def test_further_folders_are_named_not_read(tmp_path: Path) -> None:
    """Protects: nobody believes that images in other sub-folders were trained on."""
    save(tmp_path / "a.png", 1)
    save(tmp_path / "rest" / "more" / "b.png", 2)
    save(tmp_path / "rest" / "more" / "c.png", 3)
    save(tmp_path / "0_off" / "d.png", 4)
    (tmp_path / "logs").mkdir()
    found = read_training_folder(tmp_path, trigger="zkr")
    assert captions(found) == {"a.png": "zkr"}
    assert set(reasons(found)) == {"rest/more", "0_off"}
    assert "(2)" in reasons(found)["rest/more"]


def test_link_loops_end(tmp_path: Path) -> None:
    """Protects: a link to the folder itself is neither followed for ever nor read twice."""
    save(tmp_path / "a.png", 1)
    for name in ("again", "10_again", "held_out"):
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "5_self").symlink_to(tmp_path / "5_self")
    found = read_training_folder(tmp_path, trigger="zkr")
    assert captions(found) == {"a.png": "zkr"}
    assert set(reasons(found)) == {"10_again", "held_out"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is readable to root")
def test_unreadable_sub_folder_is_named(tmp_path: Path) -> None:
    """Protects: a folder of another user costs its own images only."""
    save(tmp_path / "a.png", 1)
    closed = save(tmp_path / "10_zkr" / "b.png", 2).parent
    closed.chmod(0)
    try:
        found = read_training_folder(tmp_path, trigger="zkr")
    finally:
        closed.chmod(0o755)
    assert captions(found) == {"a.png": "zkr"}
    assert "permissions" in reasons(found)["10_zkr"]


def test_a_folder_on_a_store(tmp_path: Path) -> None:
    """Protects: folders on object stores are read as local ones are."""
    write_own(tmp_path)
    store = UPath("memory://yokai-folder/set")
    for file in (file for file in tmp_path.rglob("*") if file.is_file()):
        target = store / file.relative_to(tmp_path).as_posix()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    local, remote = read_training_folder(tmp_path), read_training_folder(store)
    assert captions(remote) == captions(local)
    assert (held_out(remote), remote.problems) == (held_out(local), [])


def test_sub_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    """Protects: what the file system refuses costs its own images only."""
    save(tmp_path / "a.png", 1)
    write_lines(tmp_path / "metadata.jsonl", {"file_name": f"{'long' * 99}/b.png", "text": "zkr"})
    found = read_training_folder(tmp_path, trigger="zkr")
    assert captions(found) == {"a.png": "zkr"}
    assert "cannot be listed" in reasons(found)["long" * 99]


def test_progress_tells_every_image(tmp_path: Path) -> None:
    """Protects: a long reading shows how far it is."""
    for number in range(3):
        save(tmp_path / f"{number}.png", number)
    told: list[tuple[int, int]] = []
    read_training_folder(tmp_path, trigger="zkr", progress=lambda done, total, note="": told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    """Protects: a folder that cannot be trained on is refused at once, with its name, the reason and the remedy."""
    with pytest.raises(TrainingFolderError, match="nowhere: no such folder"):
        read_training_folder(tmp_path / "nowhere")
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(TrainingFolderError, match=r"set\.zip: is a file.*unpack"):
        read_training_folder(tmp_path / "set.zip")
    with pytest.raises(TrainingFolderError, match=r"no images .*1 \.zip"):
        read_training_folder(tmp_path)
    save(tmp_path / "img" / "10_zkr dog" / "a.png", 1)
    with pytest.raises(TrainingFolderError, match=r"img/10_zkr dog \(1\)\. Name \S+/img, or"):
        read_training_folder(tmp_path)
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(TrainingFolderError, match=r"none of 1 images has a caption.*--trigger WORD"):
        read_training_folder(tmp_path)
    with pytest.raises(TrainingFolderError, match=r"none of 1 images is left.*b\.png"):
        read_training_folder(tmp_path, trigger="zkr")
