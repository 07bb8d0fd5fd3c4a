"""Thumbnails: taken over where nothing has changed, never where something has."""

from pathlib import Path

import pytest
from PIL import Image
from upath import UPath

from yokai_assets.gallery import images
from yokai_assets.gallery.images import picture_folder


def source(folder: Path, name: str, color: str) -> UPath:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), color).save(folder / name)
    return UPath(folder / name)


def built(folder: Path, previous: Path | None, sources: dict[str, UPath]) -> Path:
    with picture_folder(folder, previous) as pictures:
        for name, file in sources.items():
            pictures.thumbnail(file, name, 32, name)
        pictures.montage(list(sources.values()), "all", 32, "all")
    return folder


def inodes(gallery: Path) -> dict[str, int]:
    return {file.stem: file.stat().st_ino for file in (gallery / "images").glob("*.webp")}


def test_only_what_changed_is_encoded_anew(tmp_path: Path):
    """Protects the hours of whoever builds the report after each character, and the truth of its pictures."""
    files = {name: source(tmp_path / "src", f"{name}.png", name) for name in ("red", "blue", "green")}
    first = built(tmp_path / "first", None, files)
    before = inodes(first)
    second = built(tmp_path / "second", first, files)
    assert inodes(second) == before, "linked, not encoded"
    source(tmp_path / "src", "red.png", "yellow")
    third = built(tmp_path / "third", second, files)
    after = inodes(third)
    assert {name for name in after if after[name] != before[name]} == {"red", "all"}
    with Image.open(third / "images" / "red.webp") as image:
        red, green, blue = image.convert("RGB").getpixel((5, 5))  # pyright: ignore[reportGeneralTypeIssues]
        assert min(red, green) > 200 and blue < 60


def test_a_picture_is_found_again_under_another_name(tmp_path: Path):
    """Protects against encoding all exemplars anew because their order changed."""
    file = source(tmp_path / "src", "a.png", "red")
    first = built(tmp_path / "first", None, {"exemplar00": file})
    second = built(tmp_path / "second", first, {"exemplar01": file})
    assert inodes(second)["exemplar01"] in inodes(first).values()


@pytest.mark.parametrize("damage", ["torn picture", "torn manifest", "foreign manifest", "no picture"])
def test_a_damaged_earlier_report_is_no_source(tmp_path: Path, damage: str):
    """Protects the new report from what a full disk or a kill left of the old one."""
    file = source(tmp_path / "src", "a.png", "red")
    first = built(tmp_path / "first", None, {"a": file})
    if damage == "torn picture":
        (first / "images" / "a.webp").write_bytes(b"RIFF")
    elif damage == "no picture":
        (first / "images" / "a.webp").unlink()
    else:
        text = "{ torn" if damage == "torn manifest" else '{"k": ["../../a", 1]}'
        (first / images.MANIFEST_FILE).write_text(text)
    second = built(tmp_path / "second", first, {"a": file})
    with Image.open(second / "images" / "a.webp") as image:
        assert image.size == (32, 24)


def test_links_are_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Protects file systems without hard links: pictures are copied there."""
    file = source(tmp_path / "src", "a.png", "red")
    first = built(tmp_path / "first", None, {"a": file})

    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(images.os, "link", refuse)
    second = built(tmp_path / "second", first, {"a": file})
    assert (second / "images" / "a.webp").read_bytes() == (first / "images" / "a.webp").read_bytes()


def test_what_cannot_be_read_is_left_out(tmp_path: Path):
    """Protects pages and montages from missing and damaged sources."""
    good = source(tmp_path / "src", "a.png", "red")
    (tmp_path / "src" / "b.png").write_bytes(b"no picture")
    bad, missing = UPath(tmp_path / "src" / "b.png"), UPath(tmp_path / "src" / "c.png")
    with picture_folder(tmp_path / "gallery") as pictures:
        pending = [pictures.thumbnail(file, f"n{index}", 32, "") for index, file in enumerate((good, bad, missing))]
        montage = pictures.montage([bad, good, missing], "montage", 32, "")
        assert [picture.ready() is not None for picture in pending] == [True, False, False]
        assert montage.ready() is not None


def test_a_removed_layer_is_still_shown(tmp_path: Path):
    """Protects the report from retention: what the last one showed stays, where a name means one content for ever."""
    kept, other = (source(tmp_path / "src", f"{name}.png", "red") for name in ("kept", "other"))

    def report(folder: Path, previous: Path | None) -> Path:
        with picture_folder(folder, previous) as pictures:
            pictures.thumbnail(kept, "kept", 32, "", is_named_by_content=True)
            pictures.thumbnail(other, "other", 32, "")
        return folder

    first = report(tmp_path / "first", None)
    kept.unlink()
    other.unlink()
    second = report(tmp_path / "second", first)
    third = report(tmp_path / "third", second)
    assert inodes(third) == {"kept": inodes(first)["kept"]}
