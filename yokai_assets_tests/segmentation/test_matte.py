"""Mattes: raw output of whatever network the settings name, and clear errors for the rest."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from yokai_assets.segmentation.matte import MatteError, open_matte
from yokai_assets.settings.model import SegmentationSettings
from yokai_assets_tests.frames.pictures import scene, with_disc
from yokai_assets_tests.segmentation.mattes import CHARACTER, describe, probability, write_colour_network

pytest.importorskip("onnx", reason="writing test networks needs onnx, part of the extra `train-demo-models`")


def settings(model: Path | str, **more: object) -> SegmentationSettings:
    return SegmentationSettings.model_validate({"model": str(model), **more})


PICTURES = [with_disc(scene(n), (60, 50), 25, CHARACTER) for n in range(3)] + [scene(9).convert("L").convert("RGB")]


@pytest.mark.parametrize("batch", ["batch", 1])
@pytest.mark.parametrize("has_sigmoid", [True, False])
def test_raw_output_is_the_networks_own(tmp_path: Path, batch: int | str, has_sigmoid: bool) -> None:
    """Protects: batched or not, logits or not, the output is neither stretched nor mixed up between frames."""
    path = write_colour_network(tmp_path / "m.onnx", batch=batch, has_sigmoid=has_sigmoid)
    describe(path)
    found = open_matte(settings(path), "cpu").raw(PICTURES)
    for picture, raw in zip(PICTURES, found, strict=True):
        assert raw.shape == (96, 160)
        assert raw.dtype == np.float32
        brightest = Image.fromarray(
            np.minimum(np.asarray(picture) * (255 / np.asarray(picture).max()), 255).astype(np.uint8)
        )
        assert np.abs(raw - probability(brightest)).max() < 0.3
        assert np.abs(raw - probability(brightest)).mean() < 0.01
    assert found[3].max() < 0.1  # a frame with nothing in it stays empty: rembg would stretch it to 1


def test_output_has_the_size_of_the_frame(tmp_path: Path) -> None:
    """Protects: frames of several sizes in one batch, on a network of fixed size without a JSON file."""
    path = write_colour_network(tmp_path / "m.onnx", sides=(48, 64))
    matte = open_matte(settings(path), "cpu")
    assert [raw.shape for raw in matte.raw([scene(1), scene(2, 64, 200)])] == [(96, 160), (200, 64)]
    assert matte.raw([]) == []


def test_fingerprint_changes_with_whatever_changes_masks(tmp_path: Path) -> None:
    """Protects: cached cut-outs are of this network, this preprocessing and these thresholds."""
    path = write_colour_network(tmp_path / "m.onnx")
    describe(path)
    first = open_matte(settings(path), "cpu").fingerprint
    assert open_matte(settings(path, batch_size=2), "cpu").fingerprint == first
    moved = tmp_path / "elsewhere" / "n.onnx"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    describe(moved)
    assert open_matte(settings(moved), "cpu").fingerprint == first
    assert open_matte(settings(path, presence_threshold=0.6), "cpu").fingerprint != first
    describe(path, (64, 64))
    assert open_matte(settings(path), "cpu").fingerprint != first
    describe(path)
    write_colour_network(path, has_sigmoid=False)
    assert open_matte(settings(path), "cpu").fingerprint != first


def test_unusable_models_are_told(tmp_path: Path) -> None:
    """Protects: every wrong model name or file says what is wrong and what to use instead."""
    with pytest.raises(MatteError, match=r"neither a file nor a model of rembg.*isnet-anime"):
        open_matte(settings("isnet-anim"), "cpu")
    with pytest.raises(MatteError, match="remote service"):
        open_matte(settings("withoutbg"), "cpu")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not an onnx file")
    with pytest.raises(MatteError, match=r"broken\.onnx: not a usable ONNX file"):
        open_matte(settings(broken), "cpu")
    path = write_colour_network(tmp_path / "m.onnx")
    path.with_suffix(".json").write_text("{")
    with pytest.raises(MatteError, match=r"m\.json: not readable"):
        open_matte(settings(path), "cpu")


def test_missing_weights_name_the_place_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: offline, a rembg model says where its file belongs."""
    import pooch

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("name resolution failed")

    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(MatteError, match=r"could not be fetched.*`isnet-anime\.onnx` into .*isnet-anime"):
        open_matte(settings("isnet-anime"), "cpu")


def test_a_rembg_model_runs_on_its_own_preprocessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: any rembg session works through the tap; its input is rembg's own, its output not stretched."""
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    write_colour_network(tmp_path / "u2netp.onnx", batch=1, sides=(320, 320), has_sigmoid=True)
    (raw,) = open_matte(settings("u2netp"), "cpu").raw([PICTURES[0]])
    rgb = np.asarray(PICTURES[0].resize((320, 320), Image.Resampling.LANCZOS)) / max(np.asarray(PICTURES[0]).max(), 1)
    normal = (rgb - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    expected = 1 / (1 + np.exp(-(20 * (normal[..., 0] + normal[..., 2] - 2 * normal[..., 1]) - 24)))
    scaled = np.asarray(Image.fromarray(expected.astype(np.float32)).resize((160, 96), Image.Resampling.BILINEAR))
    assert np.abs(raw - scaled).mean() < 0.01


@pytest.mark.parametrize("name", ["u2net", "u2netp", "u2net_human_seg", "silueta", "isnet-general-use", "isnet-anime"])
def test_preprocessing_is_rembgs_bit_for_bit(name: str) -> None:
    """Protects: networks see what they were trained on; a dark, a tiny and a grey frame included."""
    from rembg.sessions import sessions

    from yokai_assets.segmentation.normalization import Normalization, preprocessing_of

    kind = sessions[name]
    ours = preprocessing_of(session_with_network(kind, name), "input", PICTURES[0])
    assert isinstance(ours, Normalization)
    dark = Image.fromarray(np.asarray(PICTURES[1]) // 9)
    for picture in (*PICTURES, dark, scene(3, 7, 5), Image.new("RGB", (64, 48)), scene(4, 1280, 720)):
        with pytest.raises(FeedsError) as taken:
            kind.predict(session_with_network(kind, name), picture)
        assert np.array_equal(ours(picture), taken.value.args[0]["input"])


def test_a_session_of_another_kind_is_asked_itself() -> None:
    """Protects: a model whose session does more than normalize still gets its own preprocessing."""
    from yokai_assets.segmentation.normalization import NotCalledError, preprocessing_of

    class Odd:
        inner_session = FakeNetwork()

        def normalize(self, image: Image.Image, *_: object) -> dict[str, np.ndarray]:
            return {"input": np.full((1, 3, 2, 2), np.asarray(image).mean(), np.float32)}

        def predict(self, image: Image.Image) -> None:
            self.inner_session.run(None, self.normalize(image.rotate(90), (0, 0, 0), (1, 1, 1), (2, 2)))

    odd = preprocessing_of(Odd(), "input", PICTURES[0])
    assert odd(Image.new("RGB", (4, 4), (9, 9, 9))).max() == 9

    class Silent(Odd):
        def predict(self, image: Image.Image) -> None:
            pass

    with pytest.raises(NotCalledError):
        preprocessing_of(Silent(), "input", PICTURES[0])


class FeedsError(Exception):
    """Carries what a session gives its network."""


class FakeNetwork:
    """Has an input of the usual name, and hands back what it is fed."""

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="input")]

    def run(self, _: object, feeds: dict[str, np.ndarray]) -> None:
        raise FeedsError(feeds)


def session_with_network(kind: Any, name: str) -> Any:
    session = kind.__new__(kind)
    session.model_name, session.inner_session = name, FakeNetwork()
    return session
