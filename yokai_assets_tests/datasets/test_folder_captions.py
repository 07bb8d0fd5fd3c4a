"""Captions of a folder that anybody may have made: encodings, several lines, and the trigger word in front."""

from pathlib import Path

import pytest

from yokai_assets.datasets.folder import TrainingFolderError, read_training_folder
from yokai_assets_tests.datasets.folders import captions, reasons, save, write_lines


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("zkr, café".encode(), "zkr, café"),
        ("\ufeffzkr, café".encode(), "zkr, café"),
        ("zkr, café".encode("utf-16"), "zkr, café"),
        ("\ufeffzkr, 猫".encode("utf-16-be"), "zkr, 猫"),
        ("zkr, café – “old”".encode("cp1252"), "zkr, café – “old”"),
    ],
)
def test_encodings(tmp_path: Path, data: bytes, expected: str) -> None:
    """Protects: texts of any editor reach the text encoder as they were written."""
    save(tmp_path / "a.png", 1).with_suffix(".txt").write_bytes(data)
    assert captions(read_training_folder(tmp_path)) == {"a.png": expected}


@pytest.mark.parametrize("data", ["zkr".encode("utf-16-le"), b"zkr \x81\x8d", b"\xff\xfe\x00"])
def test_unreadable_texts_are_named(tmp_path: Path, data: bytes) -> None:
    """Protects: no image is trained on with a caption that nobody wrote, not even with the trigger alone."""
    save(tmp_path / "a.png", 1).with_suffix(".txt").write_bytes(data)
    with pytest.raises(TrainingFolderError, match=r"a\.png: .*UTF-8"):
        read_training_folder(tmp_path, trigger="zkr")
    save(tmp_path / "b.png", 2, "zkr, sitting")
    found = read_training_folder(tmp_path)
    assert captions(found) == {"b.png": "zkr, sitting"}
    assert "Save it as UTF-8" in reasons(found)["a.png"]
    assert found.skipped == {"unreadable caption": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zkr\nred scarf,\r\n\n  round   hat ,\n", "zkr, red scarf, round hat"),
        ("zkr sits.\nIt rains.", "zkr sits. It rains."),
        ("zkr,\tred\x07", "zkr, red"),
    ],
)
def test_several_lines_become_one(tmp_path: Path, text: str, expected: str) -> None:
    """Protects: no line of a caption is lost, and tags stay apart."""
    save(tmp_path / "a.png", 1, text)
    assert captions(read_training_folder(tmp_path)) == {"a.png": expected}


def test_which_text_counts(tmp_path: Path) -> None:
    """Protects: .txt before .caption before metadata before class tokens, and an empty one never counts."""
    for number, name in enumerate("abcd"):
        save(tmp_path / "2_tokens" / f"{name}.png", number)
    folder = tmp_path / "2_tokens"
    (folder / "a.txt").write_text("text")
    (folder / "b.TXT").write_text("\n")
    for name in "ab":
        (folder / f"{name}.caption").write_text("caption")
    write_lines(folder / "metadata.jsonl", *({"file_name": f"{name}.png", "text": "metadata"} for name in "abc"))
    told = captions(read_training_folder(tmp_path))
    assert list(told.values()) == ["text", "caption", "metadata", "tokens"]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("sitting, red", "zkr dog, sitting, red"),
        ("zkr dog, sitting", "zkr dog, sitting"),
        ("ZKR  Dog sitting", "ZKR Dog sitting"),
        ("zkr dogs, sitting", "zkr dog, zkr dogs, sitting"),
        ("sitting, Zkr dog, red", "zkr dog, sitting, red"),
        ("a picture of zkr dog, 1,000 birds", "zkr dog, a picture of zkr dog, 1,000 birds"),
    ],
)
def test_trigger_is_put_in_front(tmp_path: Path, caption: str, expected: str) -> None:
    """Protects: every caption begins with the trigger, once, and nothing else in it changes."""
    save(tmp_path / "a.png", 1, caption)
    found = read_training_folder(tmp_path, trigger=" zkr  dog,")
    assert captions(found) == {"a.png": expected}
    assert found.trigger == "zkr dog"


def test_trigger_before_class_tokens(tmp_path: Path) -> None:
    """Protects: a trigger given stands also before captions that come from a folder's name."""
    save(tmp_path / "2_dog" / "a.png", 1)
    save(tmp_path / "2_Zkr dog" / "a.png", 2)
    found = read_training_folder(tmp_path, trigger="zkr")
    assert list(captions(found).values()) == ["zkr, dog", "Zkr dog"]


def test_images_without_caption_are_left_out(tmp_path: Path) -> None:
    """Protects: nothing is trained on with an empty caption, which would change the base model for every prompt."""
    save(tmp_path / "a.png", 1, "zkr, sitting")
    save(tmp_path / "b.png", 2, " \n")
    found = read_training_folder(tmp_path, trigger="  ")
    assert captions(found) == {"a.png": "zkr, sitting"}
    assert "--trigger WORD" in reasons(found)["b.png"]


def test_names_with_accents_match(tmp_path: Path) -> None:
    """Protects: sets made on a Mac keep their captions; accents in names of files are characters of their own there."""
    save(tmp_path / "cafe\u0301.png", 1)
    save(tmp_path / "e\u0301te\u0301.png", 2)
    (tmp_path / "\u00e9t\u00e9.txt").write_text("zkr, summer")
    write_lines(tmp_path / "metadata.jsonl", {"file_name": "caf\u00e9.png", "text": "zkr, coffee"})
    assert sorted(captions(read_training_folder(tmp_path)).values()) == ["zkr, coffee", "zkr, summer"]


def test_others_are_what_captions_say_without_the_trigger(tmp_path: Path) -> None:
    """Protects: prior preservation keeps the base model under these texts; one about the character would unteach it."""
    for number, caption in enumerate(
        ["zkr, red hat", "zkr, a photo of zkr in the sun, outdoors", "ZKR", "zkr, red hat"]
    ):
        save(tmp_path / f"{number}.png", number, caption)
    assert read_training_folder(tmp_path, trigger="zkr").others() == ("outdoors", "red hat")


def test_without_a_trigger_nobody_is_another(tmp_path: Path) -> None:
    """Protects: nothing tells which words of a caption are the character."""
    for number, caption in enumerate(["a dog, up", "the dog, down"]):
        save(tmp_path / f"{number}.png", number, caption)
    found = read_training_folder(tmp_path)
    assert (found.trigger, found.others()) == (None, ())
