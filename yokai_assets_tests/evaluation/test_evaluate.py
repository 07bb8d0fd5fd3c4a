"""The evaluation of a character as a whole: what it finds out about good, bad and broken LoRAs."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from yokai_assets.evaluation import EvaluationError, evaluate_character, load_evaluation
from yokai_assets.tables import EVALUATIONS, TableError
from yokai_assets_tests.evaluation.fakes import ColourEncoder, SaturationMatte, World, broken_png


def test_a_lora_of_the_character_beats_the_base_model_and_is_recognised(world: World):
    """Protects the main finding: a LoRA that draws the character scores near real pictures, the base does not."""
    world.checkpoint(100, "cluster_000")
    result = evaluate_character(*world.arguments(), **world.parts())
    base, chosen = result.record.base, result.record.chosen
    assert chosen.resemblance.low > base.resemblance.high
    assert chosen.resemblance_gain is not None and chosen.resemblance_gain.low > 0
    assert chosen.covered_share is not None and chosen.covered_share > 0.8
    assert chosen.identification.mean == 1.0
    assert chosen.memorised_share.mean <= 0.5


def test_an_untrained_lora_covers_nothing(world: World):
    """Protects against praise for a LoRA that changes nothing."""
    world.checkpoint(100, "noise")
    record = evaluate_character(*world.arguments(), **world.parts()).record
    assert record.chosen.covered_share == pytest.approx(0.0)
    assert record.chosen.resemblance_gain is not None and record.chosen.resemblance_gain.mean == 0
    assert any("within its 95 % interval of zero" in note for note in record.notes)


def test_a_lora_of_another_character_is_found_out(world: World):
    """Protects identification: the drawn style is right, the character is not."""
    world.checkpoint(100, "cluster_001")
    record = evaluate_character(*world.arguments(), **world.parts()).record
    assert record.chosen.identification.mean == 0.0
    assert record.chosen.recognised_as == {"cluster_001": 8}


def test_a_lora_that_copies_a_training_image_is_found_out(world: World):
    """Protects the memorising and diversity measures, and that the choice listens to them."""
    world.checkpoint(100, "cluster_000")
    world.checkpoint(200, "copies")
    record = evaluate_character(*world.arguments(), **world.parts()).record
    copying = next(row for row in record.checkpoints if row.step == 200)
    assert copying.memorised_share.mean == 1.0
    assert copying.diversity.mean == pytest.approx(0.0, abs=1e-6)
    assert record.chosen_step == 100
    copied = {p.nearest_training_image for p in record.pictures if p.step == 200}
    assert copied == {"e01/000000/1"}


@pytest.mark.parametrize(("kind", "defects"), [("black", 8), ("not a number", 1)])
def test_broken_pictures_are_reported_and_lose(world: World, kind: str, defects: int):
    """Protects against fp16 overflow and the like being published."""
    world.checkpoint(100, "cluster_000")
    world.checkpoint(200, kind)
    record = evaluate_character(*world.arguments(), **world.parts()).record
    broken = next(row for row in record.checkpoints if row.step == 200)
    assert broken.defect_count == defects
    assert record.chosen_step == 100


def test_every_checkpoint_draws_the_same_prompts_and_seeds(world: World):
    """Protects comparability: columns of the grid differ by the LoRA alone."""
    world.checkpoint(100, "cluster_000")
    world.checkpoint(200, "cluster_000")
    evaluate_character(*world.arguments(), **world.parts())
    per_checkpoint = world.calls
    assert len(world.calls) == 3
    assert per_checkpoint[0] == per_checkpoint[1] == per_checkpoint[2]
    assert sorted({seed for _, seed in per_checkpoint[0]}) == [0, 1, 2, 3]


def test_results_are_the_same_for_a_seed(world: World):
    """Protects determinism: pictures, measures and choice."""
    world.checkpoint(100, "cluster_000")
    first = evaluate_character(*world.arguments(), **world.parts())
    before = {f.name: f.read_bytes() for f in Path(str(first.folder)).glob("*.png")}
    second = evaluate_character(*world.arguments(), **world.parts())
    after = {f.name: f.read_bytes() for f in Path(str(second.folder)).glob("*.png")}
    assert first.table.equals(second.table)
    assert before == after and len(before) == 16


def test_files_and_table_agree_and_can_be_read_back(world: World):
    """Protects what other stages read: record, table, pictures with their origin, the comparison."""
    world.checkpoint(100, "cluster_000")
    world.checkpoint(200, "noise")
    result = evaluate_character(*world.arguments(), **world.parts())
    table = EVALUATIONS.conform(result.table)
    assert table["step"].to_list() == [0, 100, 200]
    assert table["is_chosen"].to_list() == [False, True, False]
    assert load_evaluation(world.layout, "cluster_000") == result.record
    picture = next(p for p in result.record.pictures if p.step == 100 and p.prompt_index == 1)
    with Image.open(str(result.comparison)) as image:
        assert image.width > image.height > 300
    drawn = [p for p in result.record.pictures if (p.step, p.prompt_index, p.seed) in {(100, 1, 2), (0, 1, 2)}]
    with Image.open(str(result.folder / drawn[0].file)) as base, Image.open(str(result.folder / drawn[1].file)) as ours:
        assert picture.prompt == "ykaitrigger, on a hill"
        assert base.info["parameters"].startswith("ykaitrigger, on a hill\nSteps: 25, ")
        assert ours.info["parameters"].splitlines() == [
            "ykaitrigger, on a hill <lora:cluster_000-step000100:1>",
            "Steps: 25, Sampler: DDIM, CFG scale: 7, Seed: 2, Size: 48x48, Model: fake, RNG: CPU",
        ]
        assert (base.info["yokai.checkpoint"], base.info["yokai.step"]) == ("none", "0")
        assert ours.info["yokai.checkpoint"] == "cluster_000-step000100.safetensors"
        assert ours.info["yokai.checkpoint_sha256"] == result.record.chosen.tensors_sha256
        assert (ours.info["yokai.seed"], ours.info["yokai.weight"]) == ("2", "1")


def test_control_prompts_measure_bleeding_and_nothing_else(world: World):
    """Protects the measure of what a LoRA does to prompts that do not ask for it."""
    prompts = ("{trigger}", "a hill")
    world.set_evaluation(prompts=prompts)
    world.checkpoint(100, "cluster_000")
    chosen = evaluate_character(*world.arguments(), **world.parts()).record.chosen
    assert chosen.bleeding is not None and chosen.bleeding.mean > 0.1
    assert sum(chosen.recognised_as.values()) == 4
    assert chosen.prompt_following is None


def test_one_damaged_checkpoint_does_not_stop_the_others(world: World):
    """Protects the rest of the work from one bad file."""
    world.checkpoint(100, "cluster_000")
    world.checkpoint(200, "cluster_000").write_bytes(b"torn")
    record = evaluate_character(*world.arguments(), **world.parts()).record
    assert record.chosen_step == 100
    assert any("cluster_000-step000200.safetensors" in note for note in record.notes)


@pytest.mark.parametrize("content", [b"no image", broken_png()], ids=["no image", "broken PNG"])
def test_an_unreadable_dataset_image_is_left_out_and_said(world: World, content: bytes):
    """Protects the evaluation from one bad image."""
    world.checkpoint(100, "cluster_000")
    world.layout.absolute(world.dataset["image"][0]).write_bytes(content)
    record = evaluate_character(*world.arguments(), **world.parts()).record
    assert record.training_count == 11
    assert any("1 dataset image(s) could not be read" in note for note in record.notes)


def test_images_that_the_lora_was_trained_on_never_judge_it(world: World):
    """Protects the one rule of held-out images, also where the dataset was made anew since the training."""
    held_out = world.dataset.filter(split="held_out")["instance_id"].to_list()
    world.checkpoint(100, "cluster_000", trained_on=[*held_out[:1], "e09/000000/0"])
    record = evaluate_character(*world.arguments(), **world.parts()).record
    assert record.reference_count == 3
    assert any("1 of 4 held-out images were trained on" in note for note in record.notes)
    world.checkpoint(100, "cluster_000", trained_on=held_out)
    with pytest.raises(EvaluationError, match=r"nothing unseen is left\. Materialize lora_model"):
        evaluate_character(*world.arguments(), **world.parts())


def test_scores_compare_whatever_computed_the_vectors(world: World):
    """Protects a better published LoRA from being replaced because another device rounds otherwise."""
    world.checkpoint(100, "cluster_000")
    first = evaluate_character(*world.arguments(), **world.parts()).record
    parts = world.parts()
    parts["model"] = RoundingEncoder()
    assert evaluate_character(*world.arguments(), **parts).record.fingerprint == first.fingerprint
    world.dataset = world.dataset.with_columns(image_sha256=pl.lit("other"))
    assert evaluate_character(*world.arguments(), **world.parts()).record.fingerprint != first.fingerprint


class RoundingEncoder(ColourEncoder):
    """The same network where the last bits come out otherwise."""

    def embed_images(self, images: list[Image.Image]) -> np.ndarray:
        return super().embed_images(images) + np.float32(1e-6)


def test_without_held_out_images_training_images_stand_in_and_it_says_so(tmp_path: Path):
    """Protects characters of a single shot: they get a LoRA, with a warning."""
    world = World(tmp_path, held_out_count=0)
    world.checkpoint(100, "cluster_000")
    record = evaluate_character(*world.arguments(), **world.parts()).record
    assert record.reference == "train"
    assert any("Nothing is held out" in note for note in record.notes)
    assert record.chosen.identification.mean == 1.0


def test_the_weight_with_the_best_pictures_is_suggested(world: World):
    """Protects the suggested weight: it is measured, and every weight is judged on the same seeds."""
    world.set_evaluation(weights=(0.6, 0.8, 1.0, 1.2), images_per_weight=2)
    world.checkpoint(100, "cluster_000", best_weight=0.8)
    result = evaluate_character(*world.arguments(), **world.parts())
    record = result.record
    assert record.suggested_weight == 0.8
    assert [row.weight for row in record.weights] == [0.6, 0.8, 1.0, 1.2]
    assert "Weight 0.8 has the best score" in record.weight_reason
    assert {seed for call in world.calls[2:] for _, seed in call} == {0, 1}
    assert result.table["suggested_weight"].to_list() == [None, pytest.approx(0.8)]
    with Image.open(str(result.folder / "weights.webp")) as sheet:
        assert sheet.height > 4 * 128


def test_equal_weights_leave_it_at_one(world: World):
    """Protects users from a weight that is suggested for no reason."""
    world.set_evaluation(weights=(0.5, 1.0, 1.2))
    world.checkpoint(100, "noise")
    record = evaluate_character(*world.arguments(), **world.parts()).record
    assert record.suggested_weight == 1.0


def test_numbers_stand_beside_real_images_base_and_another_lora(world: World):
    """Protects the reading of the numbers: what another character's LoRA scores is in the same table."""
    world.checkpoint(100, "cluster_000")
    alone = evaluate_character(*world.arguments(), **world.parts()).record
    assert [anchor.kind for anchor in alone.anchors] == ["real", "base", "this"]
    assert any("No other character's LoRA" in note for note in alone.notes)
    other = world.layout.lora_tests("cluster_001")
    other.mkdir(parents=True)
    world.checkpoint(100, "cluster_001")
    drawn_by_other = evaluate_character(*world.arguments(), **world.parts())
    (other / "vectors.safetensors").write_bytes((drawn_by_other.folder / "vectors.safetensors").read_bytes())
    world.checkpoint(100, "cluster_000")
    result = evaluate_character(*world.arguments(), **world.parts())
    real, base, rival, this = result.record.anchors
    assert [real.kind, base.kind, rival.kind, this.kind] == ["real", "base", "other", "this"]
    assert rival.name == "LoRA of cluster_001"
    assert rival.resemblance.mean < this.resemblance.mean < real.resemblance.high + 0.05
    assert rival.identification.mean == 0 and this.identification.mean == 1 == real.identification.mean
    assert base.covered is not None and base.covered.mean == 0
    assert this.covered is not None and rival.covered is not None and this.covered.mean > rival.covered.mean + 0.3
    for damaged in (b"", b"torn", (other / "vectors.safetensors").read_bytes()[:-9]):
        (other / "vectors.safetensors").write_bytes(damaged)
        again = evaluate_character(*world.arguments(), **world.parts())
        assert [anchor.kind for anchor in again.record.anchors] == ["real", "base", "this"]
        assert again.table.equals(result.table)


def test_the_loss_on_held_out_images_stands_beside_the_scores(world: World):
    """Protects the sign of overfitting: the table shows the training's own curve at each judged step."""
    world.checkpoint(100, "cluster_000", loss=0.4)
    world.checkpoint(200, "cluster_000", loss=0.6)
    table = evaluate_character(*world.arguments(), **world.parts()).table
    assert table["validation_loss"].to_list() == [None, pytest.approx(0.4), pytest.approx(0.6)]


def test_pictures_that_come_nearest_to_training_images_are_shown(world: World):
    """Protects people's own judgement of copying: drawn picture and training image over each other."""
    world.checkpoint(100, "copies")
    result = evaluate_character(*world.arguments(), **world.parts())
    with Image.open(str(result.folder / "closest.webp")) as sheet:
        assert sheet.width > 4 * 128 and sheet.height > 2 * 128


def test_a_failed_evaluation_leaves_the_old_one(world: World):
    """Protects against half-written results: the folder is swapped as one."""
    checkpoint = world.checkpoint(100, "cluster_000")
    before = evaluate_character(*world.arguments(), **world.parts()).record
    checkpoint.write_bytes(b"torn")
    with pytest.raises(EvaluationError, match="no checkpoint can be used"):
        evaluate_character(*world.arguments(), **world.parts())
    assert load_evaluation(world.layout, "cluster_000") == before
    assert [p.name for p in world.layout.lora_tests("cluster_000").parent.iterdir()] == ["lora_tests"]


def test_what_is_missing_is_named_with_its_remedy(world: World):
    """Protects the messages of the three things that can be missing."""
    with pytest.raises(EvaluationError, match=r"no finished training .* lora_model"):
        evaluate_character(*world.arguments(), **world.parts())
    world.checkpoint(100, "cluster_000")
    parts = world.parts()
    parts["model"].fingerprint = "another"
    with pytest.raises(EvaluationError, match="no exemplar has a vector"):
        evaluate_character(*world.arguments(), **parts)
    world.dataset = world.dataset.clear()
    with pytest.raises(EvaluationError, match="training_dataset"):
        evaluate_character(*world.arguments(), **world.parts())


def test_a_damaged_record_is_an_error_with_a_remedy(world: World):
    """Protects readers of `evaluation.json`."""
    folder = world.layout.lora_tests("cluster_000")
    with pytest.raises(EvaluationError, match="Materialize lora_evaluation"):
        load_evaluation(world.layout, "cluster_000")
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(EvaluationError, match=r"evaluation\.json.*evaluation again"):
        load_evaluation(world.layout, "cluster_000")


def test_progress_counts_every_picture(world: World):
    """Protects the progress bar: it ends at its total."""
    world.checkpoint(100, "cluster_000")
    seen: list[tuple[int, int]] = []
    evaluate_character(
        *world.arguments(), **world.parts(), progress=lambda done, total, note="": seen.append((done, total))
    )
    assert seen[-1] == (16, 16)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_backgrounds_do_not_count_when_characters_are_cut_out(world: World):
    """Protects the comparison of characters, not of backgrounds: same character, other ground, high cosine."""
    from yokai_assets.evaluation.subjects import embed_drawn

    image = world.training_pictures[0]
    mask = np.asarray(image.convert("HSV"))[..., 1] > 90
    pixels = np.asarray(image).copy()
    pixels[~mask] = (20, 20, 20)
    pair = [image, Image.fromarray(pixels)]
    cut = embed_drawn(pair, ColourEncoder(), SaturationMatte(), 0.5, 128, 8)
    whole = embed_drawn(pair, ColourEncoder(), None, 0.5, 128, 8)
    assert cut[0] @ cut[1] > 0.99 > 0.7 > whole[0] @ whole[1]


class SmallDeviceMatte(SaturationMatte):
    """Has room for three pictures at a time."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def raw(self, images: list[Image.Image]) -> list[np.ndarray]:
        self.batches.append(len(images))
        if len(images) > 3:
            raise RuntimeException("CUDA failure 2: out of memory")
        return super().raw(images)


class RuntimeException(Exception):  # noqa: N818
    """As ONNX Runtime raises it: no `RuntimeError`."""


def test_the_matte_sees_a_batch_at_a_time_and_fewer_where_memory_runs_out(world: World):
    """Protects the evaluation on a GPU that holds the base model too."""
    world.checkpoint(100, "cluster_000")
    roomy = evaluate_character(*world.arguments(), **world.parts()).table
    segmentation = world.settings.segmentation.model_copy(update={"batch_size": 5})
    world.settings = world.settings.model_copy(update={"segmentation": segmentation})
    matte = SmallDeviceMatte()
    tight = evaluate_character(*world.arguments(), **{**world.parts(), "matte": matte}).table
    assert tight.equals(roomy)
    assert matte.batches == [5, 2, 2, 2, 2] * 2


def test_table_rejects_two_rows_of_one_step(world: World):
    """Protects the key of the table: a character has one row per step."""
    world.checkpoint(100, "cluster_000")
    table = evaluate_character(*world.arguments(), **world.parts()).table
    with pytest.raises(TableError):
        EVALUATIONS.conform(table.vstack(table))
