"""Publishing: what lies in the folder afterwards, what is kept, what is refused."""

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from yokai_assets.evaluation import EvaluationRecord, evaluate_character
from yokai_assets.publishing import LoraFileError, publish_lora, read_sidecar
from yokai_assets.training.safetensors_header import copy_with_metadata, data_sha256, read_header, tensors_sha256
from yokai_assets_tests.evaluation.fakes import World, broken_png, write_safetensors

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A character with one good checkpoint."""
    world = World(tmp_path)
    world.checkpoint(100, "cluster_000")
    return world


def evaluate(world: World) -> EvaluationRecord:
    return evaluate_character(*world.arguments(), **world.parts()).record


def weights_of(path: Path) -> bytes:
    return path.read_bytes()[read_header(path).data_start :]


def test_everything_a_user_needs_is_in_the_folder(world: World):
    """Protects the contract with user interfaces: file, header, sidecar, thumbnail, model card."""
    record = evaluate(world)
    published = publish_lora("cluster_000", record, world.layout, lineage={"dataset version": "abc"}, at=AT)
    assert published.state == "published" and published.previous is None
    path = Path(str(published.path))
    header = read_header(path)
    assert weights_of(path) == (100).to_bytes(8, "little")
    assert header.metadata["learnt"] == "cluster_000"
    assert header.metadata["modelspec.trigger_phrase"] == "ykaitrigger"
    assert header.metadata["modelspec.hash_sha256"] == "0x" + data_sha256(path)
    assert header.metadata["yokai.dataset version"] == "abc"
    assert header.data_start % 8 == 0
    sidecar = json.loads(published.sidecar.read_text())
    assert sidecar["activation text"] == "ykaitrigger" and sidecar["preferred weight"] == 1.0
    with Image.open(str(published.preview)) as preview:
        assert preview.format == "PNG" and preview.size == (48, 48)


def test_the_thumbnail_in_the_header_is_a_picture_of_256_px(world: World):
    """Protects the model spec: a data URL that decodes."""
    import base64

    published = publish_lora("cluster_000", evaluate(world), world.layout)
    url = read_header(Path(str(published.path))).metadata["modelspec.thumbnail"]
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        assert url.startswith("data:image/jpeg;base64,") and image.size == (256, 256)


def test_the_file_loads_with_the_safetensors_library(world: World):
    """Protects the header rewriting against the reference reader."""
    from safetensors import safe_open

    published = publish_lora("cluster_000", evaluate(world), world.layout)
    with safe_open(str(published.path), framework="np") as file:
        assert file.get_tensor("w").tolist() == [100, 0, 0, 0, 0, 0, 0, 0]
        assert file.metadata()["modelspec.trigger_phrase"] == "ykaitrigger"


def test_the_model_card_tells_numbers_limits_and_links_that_exist(world: World):
    """Protects the card: its pictures exist, its numbers are the record's, its limits are there."""
    record = evaluate(world)
    published = publish_lora("cluster_000", record, world.layout, lineage={"run": "a|b`c"})
    card = published.card.read_text()
    for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", card):
        assert (published.card.parent / link).exists()
    assert f"{record.chosen.resemblance.mean:.3f}" in card
    assert "Only 4 held-out image(s)" in card
    assert "| run | `a\\|b'c` |" in card
    assert "No weight but 1.0 was tried" in card and "Near-copies of training images" in card
    tables = [line for line in card.splitlines() if line.startswith("|")]
    blocks = [block.splitlines() for block in card.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 4 and all(len(block) > 2 and set(block[1]) == set("|-") for block in blocks)
    assert {line.count("|") - line.count("\\|") for line in tables} == {3, 2 + len(record.anchors)}


def test_the_same_weights_are_not_a_new_version(world: World):
    """Protects a second run: nothing new, no version, same bytes."""
    record = evaluate(world)
    first = publish_lora("cluster_000", record, world.layout, at=AT)
    before = first.path.read_bytes()
    again = publish_lora("cluster_000", record, world.layout, at=AT)
    assert again.state == "unchanged" and again.previous is None
    assert again.path.read_bytes() == before
    assert not list(Path(str(first.path.parent)).glob("*-v*"))


def test_a_better_one_replaces_and_the_old_one_is_kept(world: World):
    """Protects older versions with their sidecars."""
    world.checkpoint(100, "noise")
    publish_lora("cluster_000", evaluate(world), world.layout)
    old = world.layout.lora("cluster_000") / "cluster_000.safetensors"
    before = old.read_bytes()
    world.checkpoint(200, "cluster_000")
    published = publish_lora("cluster_000", evaluate(world), world.layout)
    assert published.state == "replaced" and "better" in published.reason
    assert published.previous is not None and published.previous.name == "cluster_000-v001.safetensors"
    assert published.previous.read_bytes() == before
    assert (published.previous.parent / "cluster_000-v001.json").exists()
    assert weights_of(Path(str(published.path))) == (200).to_bytes(8, "little")


def test_a_worse_one_does_not_replace_unless_asked_for(world: World):
    """Protects a good LoRA from a bad retraining, and the way to insist."""
    good = publish_lora("cluster_000", evaluate(world), world.layout)
    before = good.path.read_bytes()
    world.checkpoint(100, "noise", weights=b"worse---")
    record = evaluate(world)
    kept = publish_lora("cluster_000", record, world.layout)
    assert kept.state == "kept_better" and "replace_better" in kept.reason
    assert good.path.read_bytes() == before
    assert (kept.score, kept.suggested_weight) == (good.score, good.suggested_weight)
    forced = publish_lora("cluster_000", record, world.layout, is_worse_allowed=True)
    assert forced.state == "replaced" and "WORSE" in forced.reason
    assert forced.previous is not None and forced.previous.read_bytes() == before


def test_texts_show_the_published_lora_and_tell_of_the_rejected_one(world: World):
    """Protects readers: numbers beside a LoRA are its own, also after a newer one was judged and not published."""
    first = evaluate(world)
    good = publish_lora("cluster_000", first, world.layout, lineage={"run": "first"}, at=AT)
    world.checkpoint(100, "noise", weights=b"worse---")
    worse = evaluate(world)
    kept = publish_lora("cluster_000", worse, world.layout, lineage={"run": "second"}, at=AT)
    values, record = read_sidecar(kept.sidecar)
    assert record is not None and record.evaluation is not None and record.rejected is not None
    assert record.score == first.chosen.score == record.evaluation.chosen.score
    assert record.evaluation.chosen == first.chosen and record.evaluation.base == first.base
    assert (kept.sidecar.parent / record.evaluation.comparison).exists()
    assert (record.rejected.step, record.rejected.score) == (100, worse.chosen.score)
    assert record.rejected == kept.rejected and record.lineage["run"] == "first"
    assert f"{first.chosen.resemblance.mean:.3f}" in values["notes"]
    card = kept.card.read_text()
    assert f"{first.chosen.resemblance.mean:.3f} (" in card
    assert f"{worse.chosen.resemblance.mean:.3f} (" not in card.replace(f"{worse.base.resemblance.mean:.3f} (", "")
    assert "is better than the new one" in card and f"score {worse.chosen.score:.3f}" in card
    assert "first" in card and "second" not in card
    world.checkpoint(100, "cluster_000", weights=b"newer---")
    again = publish_lora("cluster_000", evaluate(world), world.layout, is_worse_allowed=True, at=AT)
    _, record = read_sidecar(again.sidecar)
    assert record is not None and record.rejected is None
    assert "is better than the new one" not in good.card.read_text()


def test_only_what_was_judged_is_published(world: World):
    """Protects users from a checkpoint of a later training under the judgement of an earlier one."""
    record = evaluate(world)
    world.checkpoint(100, "noise", weights=b"later---")
    with pytest.raises(LoraFileError, match="not the file that was judged"):
        publish_lora("cluster_000", record, world.layout)
    assert not (world.layout.lora("cluster_000") / "cluster_000.safetensors").exists()


def test_a_record_with_an_evaluation_of_another_version_still_counts(world: World):
    """Protects score and hash of a published LoRA when the form of evaluations changes."""
    sidecar = publish_lora("cluster_000", evaluate(world), world.layout).sidecar
    values = json.loads(sidecar.read_text())
    values["yokai"]["evaluation"]["schema_version"] = 0
    sidecar.write_text(json.dumps(values))
    _, record = read_sidecar(sidecar)
    assert record is not None and record.evaluation is None and record.tensors_sha256
    world.checkpoint(100, "noise", weights=b"worse---")
    assert publish_lora("cluster_000", evaluate(world), world.layout).state == "kept_better"


def test_scores_of_different_evaluations_do_not_compare(world: World):
    """Protects a retraining on new data: a lower score on other pictures is no reason to refuse."""
    publish_lora("cluster_000", evaluate(world), world.layout)
    world.checkpoint(100, "noise", weights=b"other---")
    world.dataset = world.dataset.head(14)
    published = publish_lora("cluster_000", evaluate(world), world.layout)
    assert published.state == "replaced" and "do not compare" in published.reason


def test_versions_count_up_and_a_killed_call_leaves_no_double(world: World):
    """Protects numbering, also after a kill between keeping the old and writing the new version."""
    folder = world.layout.lora("cluster_000")
    for step in (1, 2, 3):
        world.checkpoint(100, "cluster_000", weights=step.to_bytes(8, "little"))
        publish_lora("cluster_000", evaluate(world), world.layout, is_worse_allowed=True)
    assert {p.name for p in folder.glob("*-v*.safetensors")} == {
        "cluster_000-v001.safetensors",
        "cluster_000-v002.safetensors",
    }
    (folder / "cluster_000-v003.safetensors").write_bytes((folder / "cluster_000.safetensors").read_bytes())
    world.checkpoint(100, "cluster_000", weights=(4).to_bytes(8, "little"))
    published = publish_lora("cluster_000", evaluate(world), world.layout, is_worse_allowed=True)
    assert published.previous is not None and published.previous.name == "cluster_000-v003.safetensors"
    assert not (folder / "cluster_000-v004.safetensors").exists()


class Killed(BaseException):
    """What a kill looks like from inside: nothing catches it."""


def test_a_kill_at_any_moment_leaves_no_mixture_and_the_next_call_mends_it(world: World, monkeypatch):
    """Protects the folder at every rename.

    The LoRA is whole, no judgement of other weights is read as its own, the older version is there once, and a second
    call ends where an undisturbed one does.
    """
    folder = Path(str(world.layout.lora("cluster_000")))
    publish_lora("cluster_000", evaluate(world), world.layout, at=AT)
    world.checkpoint(100, "cluster_000", weights=b"another-")
    record = evaluate(world)
    before = contents(folder)
    publish_lora("cluster_000", record, world.layout, at=AT)
    undisturbed, renames, kills = contents(folder), Path.replace, 0
    assert {
        "cluster_000-v001.safetensors",
        "cluster_000-v001.json",
        "cluster_000-v001.samples.webp",
    } < undisturbed.keys()
    while True:
        restore(folder, before)
        left = [kills]

        def replace_unless_killed(path: Path, target: Path, left: list[int] = left) -> Path:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return renames(path, target)

        monkeypatch.setattr(Path, "replace", replace_unless_killed)
        try:
            publish_lora("cluster_000", record, world.layout, at=AT)
            break
        except Killed:
            kills += 1
        finally:
            monkeypatch.setattr(Path, "replace", renames)
        lora = folder / "cluster_000.safetensors"
        _, read = read_sidecar(world.layout.lora("cluster_000") / "cluster_000.json")
        assert read is None or read.tensors_sha256 == tensors_sha256(lora)
        publish_lora("cluster_000", record, world.layout, at=AT)
        assert contents(folder) == undisturbed
    assert kills == 9  # four files of the old version, five of the new one


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def restore(folder: Path, files: dict[str, bytes]) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def test_an_older_version_is_whole_and_speaks_of_itself(world: World):
    """Protects going back to it: its own judgement, samples and weight, none of them the newer one's."""
    first = evaluate(world)
    publish_lora("cluster_000", first, world.layout)
    world.checkpoint(100, "noise", weights=b"worse---")
    published = publish_lora("cluster_000", evaluate(world), world.layout, is_worse_allowed=True)
    assert published.previous is not None
    folder = published.path.parent
    _, record = read_sidecar(folder / "cluster_000-v001.json")
    assert record is not None and record.evaluation is not None
    assert record.tensors_sha256 == tensors_sha256(Path(str(published.previous)))
    assert record.evaluation.chosen == first.chosen
    assert record.evaluation.comparison == "cluster_000-v001.samples.webp"
    assert (folder / record.evaluation.comparison).read_bytes() != (folder / "cluster_000.samples.webp").read_bytes()


def test_what_a_person_wrote_into_the_sidecar_stays(world: World):
    """Protects notes and weights set in a user interface; what we wrote ourselves is refreshed."""
    record = evaluate(world)
    sidecar = publish_lora("cluster_000", record, world.layout).sidecar
    values = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**values, "preferred weight": 0.7, "my key": 1, "activation text": "x"}))
    publish_lora("cluster_000", record, world.layout)
    values, publication = read_sidecar(sidecar)
    assert values["preferred weight"] == 0.7 and values["my key"] == 1
    assert values["activation text"] == "ykaitrigger"
    assert publication is not None and publication.score == record.chosen.score


def test_missing_and_damaged_checkpoints_are_named(world: World):
    """Protects the published file: a bad checkpoint is an error with a remedy, and nothing changes."""
    record = evaluate(world)
    published = publish_lora("cluster_000", record, world.layout)
    before = published.path.read_bytes()
    checkpoint = world.layout.absolute(record.chosen_checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-3])
    with pytest.raises(LoraFileError, match=r"step000100\.safetensors: not a whole safetensors file"):
        publish_lora("cluster_000", record, world.layout)
    checkpoint.unlink()
    with pytest.raises(LoraFileError, match="lora_evaluation"):
        publish_lora("cluster_000", record, world.layout)
    assert published.path.read_bytes() == before


def test_a_foreign_file_under_the_final_name_is_kept(world: World):
    """Protects a file that somebody put there: it becomes version 1, readable or not."""
    lora = world.layout.lora("cluster_000") / "cluster_000.safetensors"
    lora.write_bytes(b"somebody's")
    published = publish_lora("cluster_000", evaluate(world), world.layout)
    assert published.previous is not None and published.previous.read_bytes() == b"somebody's"
    assert "without a record" in published.reason


@pytest.mark.parametrize("data", [b"", b"\x05\x00", b"\xff" * 40, (4).to_bytes(8, "little") + b"null"])
def test_files_that_are_no_safetensors_are_refused(tmp_path: Path, data: bytes):
    """Protects the byte-level reader against anything."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(LoraFileError, match=r"x\.safetensors"):
        read_header(path)


def test_metadata_may_hold_any_text_and_weights_stay_the_same(tmp_path: Path):
    """Protects non-Latin series names in headers, and hashes that depend on weights alone."""
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_safetensors(source, {"k": "v"}, b"12345678")
    copy_with_metadata(source, target, {"series": "妖怪ウォッチ \U0001f608"})
    assert read_header(target).metadata == {"series": "妖怪ウォッチ \U0001f608"}
    assert tensors_sha256(source) == tensors_sha256(target)
    write_safetensors(source, {"k": "v"}, b"12345679")
    assert tensors_sha256(source) != tensors_sha256(target)


def test_without_a_sound_picture_there_is_still_a_preview(world: World):
    """Protects interfaces that show the preview: it exists even when every picture is broken or gone."""
    record = evaluate(world)
    for number, picture in enumerate(record.pictures):
        path = world.layout.lora_tests("cluster_000") / picture.file
        path.write_bytes(broken_png()) if number % 2 else path.unlink()
    published = publish_lora("cluster_000", record, world.layout)
    with Image.open(str(published.preview)) as preview:
        assert preview.width >= 256


def test_the_layout_of_diffusers_is_published_where_it_was_written(world: World):
    """Protects its alphas, which stand in the header there, and that no older weights lie beside newer ones."""
    checkpoint = world.checkpoint(100, "cluster_000")
    other = checkpoint.parent / checkpoint.name.replace(".safetensors", ".diffusers.safetensors")
    own = {"lora_adapter_metadata": '{"unet.lora_alpha": 3}', "sshs_model_hash": "of its own bytes"}
    write_safetensors(other, own, b"12345678")
    published = publish_lora("cluster_000", evaluate(world), world.layout)
    copy = published.path.parent / "cluster_000.diffusers.safetensors"
    metadata = read_header(copy).metadata
    assert weights_of(Path(str(copy))) == b"12345678"
    assert own.items() <= metadata.items()
    assert metadata["modelspec.trigger_phrase"] == "ykaitrigger"
    assert "lora_adapter_metadata" not in read_header(published.path).metadata
    other.unlink()
    publish_lora("cluster_000", evaluate(world), world.layout)
    assert not copy.exists()
