"""Every LoRA against every character: who is found out by it, and what is left out."""

from pathlib import Path

import numpy as np
import pytest

from yokai_assets.evaluation import EvaluationRecord, evaluate_character
from yokai_assets.evaluation.anchors import CharacterVectors, save_vectors
from yokai_assets.evaluation.crossing import compare_loras, matrix_of, taken_for_others
from yokai_assets.storage.files import write_text
from yokai_assets.tables import LORA_COMPARISONS
from yokai_assets_tests.evaluation.fakes import World

SQUARE = np.eye(3, dtype=np.float32)


@pytest.fixture
def record(world: World) -> EvaluationRecord:
    """The evaluation of one character, to be lent to others."""
    world.checkpoint(100, "cluster_000")
    return evaluate_character(*world.arguments(), **world.parts()).record


def leave(world: World, record: EvaluationRecord, name: str, drawn: np.ndarray, real: np.ndarray) -> None:
    """Leave an evaluation of a character: what its LoRA draws, and what it looks like."""
    folder = Path(str(world.layout.lora_tests(name)))
    folder.mkdir(parents=True, exist_ok=True)
    own = record.model_copy(update={"character_id": name})
    write_text(folder / "evaluation.json", own.model_dump_json())
    vectors = CharacterVectors(np.stack([drawn, drawn]), np.arange(2, dtype=np.int32), real[None], np.full(2, 0.1))
    save_vectors(vectors, folder, own.comparable)


def test_a_lora_that_resembles_another_character_more_than_that_ones_own_is_named(
    world: World, record: EvaluationRecord
):
    """Protects from LoRAs that have learnt the style of the series only, and from LoRAs mixed up."""
    leave(world, record, "cluster_000", drawn=SQUARE[0], real=SQUARE[0])
    leave(world, record, "cluster_001", drawn=SQUARE[0], real=SQUARE[1])
    leave(world, record, "cluster_002", drawn=SQUARE[1], real=SQUARE[2])
    crossing = compare_loras(world.layout, ["cluster_002", "cluster_001", "cluster_000", "cluster_009"], seed=0)
    table = LORA_COMPARISONS.conform(crossing.table)
    assert crossing.problems == [] and table.height == 9
    names, matrix = matrix_of(table, "resemblance")
    assert names == ["cluster_000", "cluster_001", "cluster_002"]
    np.testing.assert_allclose(matrix, [[1, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert taken_for_others(table)["character_id"].to_list() == ["cluster_000", "cluster_001", "cluster_002"]
    assert taken_for_others(table).filter(character_id="cluster_001")["rival"].to_list() == ["cluster_002"]
    leave(world, record, "cluster_001", drawn=SQUARE[1], real=SQUARE[1])
    leave(world, record, "cluster_002", drawn=SQUARE[2], real=SQUARE[2])
    assert taken_for_others(compare_loras(world.layout, names, seed=0).table).is_empty()


def test_what_cannot_be_compared_is_left_out_and_named(world: World, record: EvaluationRecord):
    """Protects the table from one damaged evaluation, and from vectors of different models."""
    leave(world, record, "cluster_000", drawn=SQUARE[0], real=SQUARE[0])
    leave(world, record.model_copy(update={"embedding_fingerprint": "x"}), "cluster_001", SQUARE[1], SQUARE[1])
    leave(world, record, "cluster_002", drawn=SQUARE[2], real=SQUARE[2])
    (world.layout.lora_tests("cluster_002") / "vectors.safetensors").write_bytes(b"torn")
    crossing = compare_loras(world.layout, ["cluster_000", "cluster_001", "cluster_002"], seed=0)
    pairs = crossing.table.select("lora_character_id", "character_id").rows()
    assert pairs == [("cluster_000", "cluster_000"), ("cluster_001", "cluster_001")]
    assert len(crossing.problems) == 1 and "cluster_002" in crossing.problems[0]
