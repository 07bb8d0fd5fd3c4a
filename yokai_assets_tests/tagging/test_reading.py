"""What readers are shown, and which of them the settings open."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yokai_assets.settings.model import CaptionSettings
from yokai_assets.tagging import TaggerError, on_white, open_readers


def test_a_cutout_stands_in_the_middle_of_a_white_square() -> None:
    """Protects: readers see the character alone, undistorted, on the ground that taggers are trained with."""
    cutout = Image.new("RGBA", (10, 4), (255, 0, 0, 0))
    cutout.paste((0, 0, 255, 255), (5, 0, 10, 4))
    shown = on_white(cutout)
    pixels = np.asarray(shown)
    assert (shown.mode, shown.size) == ("RGB", (10, 10))
    assert (pixels[3:7, 5:] == (0, 0, 255)).all()
    assert (pixels[3:7, :5] == 255).all() and (pixels[:3] == 255).all() and (pixels[7:] == 255).all()


def test_no_reader_is_opened_unless_one_is_named() -> None:
    """Protects: without these settings nothing is loaded, and captions are what they were."""
    assert open_readers(CaptionSettings(), "cpu") == []


def test_the_same_settings_open_the_same_readers(tagger_folder: Path, captioner_folder: Path) -> None:
    """Protects: a model of a gigabyte is loaded once per process, not once per character."""
    settings = CaptionSettings(tagger=str(tagger_folder), captioner=str(captioner_folder))
    tagger, captioner = open_readers(settings, "cpu")
    again = open_readers(settings.model_copy(), "cpu")
    assert (again[0] is tagger, again[1] is captioner) == (True, True)
    (other,) = open_readers(settings.model_copy(update={"captioner": None, "tagger_min_probability": 0.9}), "cpu")
    assert other.fingerprint != tagger.fingerprint
    (picture,) = tagger.read([Image.new("RGB", (5, 5), "white")])
    assert picture.tags and picture.sentence is None
    (picture,) = captioner.read([Image.new("RGB", (5, 5), "white")])
    assert not picture.tags


@pytest.mark.parametrize("setting", ["tagger", "captioner"])
def test_a_missing_folder_is_told_with_its_setting(tmp_path: Path, setting: str) -> None:
    """Protects: a typing error in `yokai.toml` is not answered by a stack trace of some library."""
    missing = tmp_path / "nowhere"
    with pytest.raises(TaggerError, match=rf"nowhere: there is no such folder\. Set captions\.{setting} to a folder"):
        open_readers(CaptionSettings.model_validate({setting: str(missing)}), "cpu")
    missing.mkdir()
    with pytest.raises(
        TaggerError, match=r"(model\.onnx and selected_tags\.csv|config\.json) not found in this folder"
    ):
        open_readers(CaptionSettings.model_validate({setting: str(missing)}), "cpu")
    file = tmp_path / "model.onnx"
    file.touch()
    with pytest.raises(TaggerError, match=r"model\.onnx: this is a file\. Set captions"):
        open_readers(CaptionSettings.model_validate({setting: str(file)}), "cpu")


@pytest.mark.parametrize("setting", ["tagger", "captioner"])
def test_a_hub_out_of_reach_tells_how_to_fetch_by_hand(offline_hub: Path, setting: str) -> None:
    """Protects: render machines without a connection get the command to run elsewhere."""
    with pytest.raises(TaggerError, match=rf"hf download someone/model .*--local-dir FOLDER.*captions\.{setting}"):
        open_readers(CaptionSettings.model_validate({setting: "someone/model"}), "cpu")
