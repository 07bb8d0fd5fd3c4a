"""What a LoRA's numbers are read against: real images, the base model, the LoRA of another character.

A LoRA that has only learnt the style of the series resembles its character about as much as another character's LoRA
does. Here: the table of one character, and the vectors that an evaluation leaves for those of others. Not here: every
LoRA against every character (`crossing`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yokai_assets.evaluation import measures
from yokai_assets.evaluation.judging import DrawnGrid, Judge, measure_pictures
from yokai_assets.evaluation.record import AnchorRecord, CheckpointRecord
from yokai_assets.storage.files import write_bytes
from yokai_assets.storage.layout import Layout

VECTORS_FILE = "vectors.safetensors"


@dataclass(frozen=True, slots=True)
class CharacterVectors:
    """What an evaluation leaves for those of other characters.

    Attributes:
        drawn: Unit vectors f32 [N, D] of the chosen checkpoint's pictures with the trigger, characters cut out.
        prompts: Index of the prompt of each picture [N].
        reference: Unit vectors f32 [R, D] of the images that drawn ones are compared with.
        base_resemblance: Resemblance f64 [B] of the base model's pictures to them.
    """

    drawn: np.ndarray
    prompts: np.ndarray
    reference: np.ndarray
    base_resemblance: np.ndarray


def vectors_of(chosen: DrawnGrid, base: DrawnGrid, judge: Judge) -> CharacterVectors:
    """Return the vectors of a character's chosen checkpoint and of its real images."""
    own, reference = chosen.is_own, judge.yardsticks.reference
    return CharacterVectors(
        drawn=chosen.subject_vectors[own].astype(np.float32),
        prompts=np.array([cell.prompt_index for cell in chosen.cells if cell.has_trigger], np.int32),
        reference=reference.astype(np.float32),
        base_resemblance=measures.mean_cosines(base.subject_vectors[own], reference),
    )


def save_vectors(vectors: CharacterVectors, folder: Path, comparable: str) -> None:
    """Write the vectors beside the evaluation; `comparable` is equal where vectors can be compared."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(getattr(vectors, name)) for name in CharacterVectors.__dataclass_fields__}
    write_bytes(folder / VECTORS_FILE, save(arrays, {"comparable": comparable}))


def load_vectors(layout: Layout, character_ids: Sequence[str], comparable: str) -> dict[str, CharacterVectors]:
    """Return the vectors of those characters whose evaluation left comparable ones. Damaged files count as none."""
    found: dict[str, CharacterVectors] = {}
    for character_id in character_ids:
        path = layout.lora_tests(character_id) / VECTORS_FILE
        try:
            loaded = _read(path.read_bytes(), comparable) if path.exists() else None
        except (OSError, ValueError):
            continue
        if loaded:
            found[character_id] = loaded
    return found


def anchor_table(
    judge: Judge,
    chosen: CheckpointRecord,
    base: CheckpointRecord,
    base_grid: DrawnGrid,
    others: Mapping[str, CharacterVectors],
) -> list[AnchorRecord]:
    """Return the four rows; without another character's LoRA, three.

    Of several others the one counts whose pictures come nearest: the hardest comparison.
    """
    yardsticks = judge.yardsticks
    base_resemblance = measures.mean_cosines(base_grid.subject_vectors[base_grid.is_own], yardsticks.reference)
    rows = [_real(judge, base_resemblance), _of_checkpoint("base", "base model", base)]
    if others:
        resemblances = {
            name: float(measures.mean_cosines(vectors.drawn, yardsticks.reference).mean())
            for name, vectors in sorted(others.items())
        }
        nearest = max(resemblances, key=lambda name: resemblances[name])
        rows.append(_other(judge, nearest, others[nearest], base_resemblance))
    this = _of_checkpoint("this", f"this LoRA, step {chosen.step:,}", chosen)
    return [*rows, this.model_copy(update={"character_id": yardsticks.character_id})]


def _real(judge: Judge, base_resemblance: np.ndarray) -> AnchorRecord:
    yardsticks = judge.yardsticks
    names = measures.identify(yardsticks.reference, yardsticks.exemplars)
    spread = 1.0 - measures.mean_cosines_among(yardsticks.all_real)
    real = judge.interval(yardsticks.real_to_real)
    has_distance = real.mean - base_resemblance.mean() > 1e-6
    return AnchorRecord(
        kind="real",
        name="real images",
        resemblance=real,
        covered=judge.interval(np.ones(1)) if has_distance else None,
        identification=judge.interval(np.array([name == yardsticks.character_id for name in names], float)),
        diversity=judge.interval(spread),
        memorised_share=None,
    )


def _of_checkpoint(kind: str, name: str, row: CheckpointRecord) -> AnchorRecord:
    return AnchorRecord.model_validate(
        {
            "kind": kind,
            "name": name,
            "resemblance": row.resemblance,
            "covered": row.covered,
            "identification": row.identification,
            "diversity": row.diversity,
            "memorised_share": row.memorised_share,
            "prompt_following": row.prompt_following,
        }
    )


def _other(judge: Judge, character_id: str, vectors: CharacterVectors, base_resemblance: np.ndarray) -> AnchorRecord:
    pictures = measure_pictures(vectors.drawn, judge.yardsticks)
    is_ours = [name == judge.yardsticks.character_id for name in pictures.recognised_as]
    is_copy = pictures.nearest_training_cosine > judge.yardsticks.memorising
    same_cells = len(base_resemblance) == len(pictures.resemblance)
    base = base_resemblance if same_cells else np.full(len(pictures.resemblance), base_resemblance.mean())
    return AnchorRecord(
        kind="other",
        name=f"LoRA of {character_id}",
        character_id=character_id,
        resemblance=judge.interval(pictures.resemblance),
        covered=judge.covered(pictures.resemblance, base),
        identification=judge.interval(np.array(is_ours, float)),
        diversity=judge.interval(measures.diversity_values(vectors.drawn, vectors.prompts.tolist())),
        memorised_share=judge.interval(is_copy.astype(float)),
    )


def _read(data: bytes, comparable: str) -> CharacterVectors | None:
    import json

    from safetensors import SafetensorError
    from safetensors.numpy import load

    length = int.from_bytes(data[:8], "little")
    if json.loads(data[8 : 8 + length]).get("__metadata__", {}).get("comparable") != comparable:
        return None
    try:
        arrays = load(data)
        return CharacterVectors(**{name: arrays[name] for name in CharacterVectors.__dataclass_fields__})
    except (SafetensorError, KeyError) as error:
        raise ValueError(str(error)) from error
