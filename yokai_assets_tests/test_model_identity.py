"""Which model a setting means: another file is another model, and no model is always the same."""

import os
from pathlib import Path

import pytest

from yokai_assets.model_identity import ModelKind, model_identity
from yokai_assets.settings import Settings


def settings(**sections: dict) -> Settings:
    return Settings.model_validate({"frames_source": "frames", **sections})


def test_what_is_not_set_does_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects: a run in one's own folder, which every run changes, does not make everything anew for ever."""
    chosen = settings(embedding={"model": "demo", "pretrained": None})
    monkeypatch.chdir(tmp_path)
    kinds: tuple[ModelKind, ...] = ("matte", "clip", "base", "readers")
    before = [model_identity(chosen, kind) for kind in kinds]
    (tmp_path / "log.txt").write_text("something new")
    assert [model_identity(chosen, kind) for kind in kinds] == before


def test_other_weights_under_the_same_name_are_another_model(tmp_path: Path) -> None:
    """Protects: captions of a tagger that was replaced are made anew; those of an untouched one are not."""
    file = tmp_path / "tagger" / "model.onnx"
    file.parent.mkdir()
    file.write_bytes(b"one")
    chosen = settings(captions={"tagger": str(file.parent)})
    before = model_identity(chosen, "readers")
    assert model_identity(chosen, "readers") == before != model_identity(settings(), "readers")
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert model_identity(chosen, "readers") != before
