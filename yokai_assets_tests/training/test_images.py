"""Reading of training images, whatever kind of file they are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.training.images import TrainingImageError, TrainingItem, read_item


def item(image: Path, mask: Path | None = None) -> TrainingItem:
    return TrainingItem("a", UPath(image), None if mask is None else UPath(mask), "caption", "train")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "1", "LA", "RGBA"])
def test_any_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """Folders made by other people hold palettes, greys and CMYK."""
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (8, 6), (255, 255, 255)).convert(mode).save(path)
    image, mask, _ = read_item(item(path))
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert np.asarray(image).min() > 250
    assert (mask is not None) == (mode in ("LA", "RGBA"))


def test_sixteen_bit_grey_keeps_its_contrast(tmp_path: Path) -> None:
    """A plain conversion would clip everything above 255 to white."""
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(path)
    image = read_item(item(path)).image
    assert np.asarray(image)[0, :, 0].tolist() == pytest.approx([0, 127, 255], abs=1)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    """Photographed or scanned pictures lie on their side otherwise."""
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (10, 4)).save(path, exif=exif)
    assert read_item(item(path)).image.size == (4, 10)


def test_alpha_is_the_mask_on_a_grey_ground(tmp_path: Path) -> None:
    """A transparent PNG of somebody else's dataset trains with masked loss, not on hidden pixels' colours."""
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, :2] = (255, 0, 0, 255)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    image, mask, _ = read_item(item(path))
    assert mask is not None
    assert np.asarray(mask)[0].tolist() == [255, 255, 0, 0]
    assert np.asarray(image)[0, 3].tolist() == [128, 128, 128]


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    """The user must learn which file is broken."""
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingImageError, match=r"broken\.png"):
        read_item(item(path))


def test_a_truncated_file_is_broken(tmp_path: Path) -> None:
    """Half a picture must not be trained on as if it were whole."""
    path = tmp_path / "half.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TrainingImageError, match=r"half\.png"):
        read_item(item(path))


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    """A shifted mask would weigh the wrong pixels silently."""
    image, mask = tmp_path / "a.png", tmp_path / "m.png"
    Image.new("RGB", (8, 8)).save(image)
    Image.new("L", (8, 4)).save(mask)
    with pytest.raises(TrainingImageError, match=r"m\.png"):
        read_item(item(image, mask))
