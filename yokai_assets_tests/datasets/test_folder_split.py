"""Which images of somebody's folder are held out: no copy of a training image, the same ones every time."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance, ImageOps

from yokai_assets.datasets.folder import read_training_folder
from yokai_assets.datasets.near_duplicates import group_near_duplicates, print_of
from yokai_assets_tests.datasets.folders import held_out, picture, reasons, save

COPIES: dict[str, Callable[[Image.Image, Path], object]] = {
    "same.png": lambda image, path: image.save(path),
    "poor.jpg": lambda image, path: image.save(path, quality=30),
    "poor.webp": lambda image, path: image.save(path, quality=30),
    "half.png": lambda image, path: image.resize((image.width // 2, image.height // 2)).save(path),
    "large.png": lambda image, path: image.resize((image.width * 7 // 4, image.height * 7 // 4)).save(path),
    "mirrored.png": lambda image, path: ImageOps.mirror(image).save(path),
    "mirrored_half.jpg": lambda image, path: ImageOps.mirror(image).resize((97, 81)).save(path, quality=50),
    "bright.png": lambda image, path: ImageEnhance.Brightness(image).enhance(1.1).save(path),
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("seed", range(3))
def test_copies_are_never_parted(tmp_path: Path, copy: str, seed: int) -> None:
    """Protects: the validation loss is not measured on a copy of what was trained on."""
    for number in range(12):
        image = picture(number, 193, 161)
        image.save(tmp_path / f"{number}.png")
        COPIES[copy](image, tmp_path / f"{number}_{copy}")
    out = held_out(read_training_folder(tmp_path, trigger="zkr", seed=seed))
    assert len(out) == 2
    assert len({name.split(".")[0].split("_")[0] for name in out}) == 1


def test_different_pictures_are_different() -> None:
    """Protects: pictures that only have a plain ground in common may stand on different sides."""
    prints = []
    for number in range(40):
        image = Image.new("RGB", (256, 256), "white")
        image.paste(picture(number, 90, 140), (10 + 4 * (number % 35), 60))
        prints.append(print_of(image))
    assert len(set(group_near_duplicates(prints).tolist())) == 40


def test_chains_of_copies_are_one_group() -> None:
    """Protects: a copy of a copy stays with the first, though these two may differ by more than is allowed."""
    wide = picture(1, 400, 100)
    prints = [print_of(wide.crop((left, 0, left + 150, 100))) for left in range(0, 240, 3)]
    assert set(group_near_duplicates([*prints, print_of(picture(2))]).tolist()) == {0, 80}
    assert len(set(group_near_duplicates([prints[0], prints[-1]]).tolist())) == 2


def test_share_and_seed(tmp_path: Path) -> None:
    """Protects: as many are held out as was asked for, and another run of the same seed holds out the same ones."""
    for number in range(20):
        save(tmp_path / f"{number}.png", number)
    chosen = [held_out(read_training_folder(tmp_path, trigger="zkr", seed=seed)) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert [len(names) for names in chosen] == [2, 2, 2]
    assert len(held_out(read_training_folder(tmp_path, trigger="zkr", held_out_share=0.3))) == 6
    assert not held_out(read_training_folder(tmp_path, trigger="zkr", held_out_share=0.0))


@pytest.mark.parametrize(("count", "expected"), [(3, 0), (7, 0), (8, 2)])
def test_small_folders_hold_none_out(tmp_path: Path, count: int, expected: int) -> None:
    """Protects: the few images of a small set are all trained on."""
    for number in range(count):
        save(tmp_path / f"{number}.png", number)
    assert len(held_out(read_training_folder(tmp_path, trigger="zkr"))) == expected


def test_copies_of_one_picture_hold_none_out(tmp_path: Path) -> None:
    """Protects: where all are copies of each other none is held out, rather than torn from the others; it is told."""
    for number in range(10):
        ImageEnhance.Brightness(picture(0)).enhance(1 - number / 200).save(tmp_path / f"{number}.png")
    found = read_training_folder(tmp_path, trigger="zkr")
    assert not held_out(found)
    assert "near-duplicates" in reasons(found)["0.png"]


def test_held_out_of_somebody_else(tmp_path: Path) -> None:
    """Protects: whoever puts images into held_out decides, and no training image is held out besides."""
    for number in range(12):
        save(tmp_path / ("held_out" if number == 5 else "") / f"{number}.png", number)
    assert held_out(read_training_folder(tmp_path, trigger="zkr")) == {"held_out/5.png"}
