"""Tiny readers, a layout, and a hub that is out of reach."""

from pathlib import Path

import pytest
from upath import UPath

from yokai_assets.storage.layout import Layout
from yokai_assets_tests.tagging.networks import write_captioner, write_tagger


@pytest.fixture(scope="session")
def tagger_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="writing test networks needs onnx, part of the extra `dev`")
    return write_tagger(tmp_path_factory.mktemp("tagger"))


@pytest.fixture(scope="session")
def captioner_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("captioner"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(UPath(tmp_path / "data"), "series")


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where fetched models lie; nothing can be fetched."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache
