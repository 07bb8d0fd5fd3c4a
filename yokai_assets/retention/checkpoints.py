"""Which checkpoints of a character's LoRA may go once they are judged.

The one that the evaluation chose and the last one always stay; so a training that was finished stays finished.
Published LoRAs are files of their own and are never looked at.
"""

from collections.abc import Mapping

from yokai_assets.evaluation.grid import EvaluationError
from yokai_assets.evaluation.record import EvaluationRecord, load_evaluation
from yokai_assets.retention.removal import Kept, Removal
from yokai_assets.storage.layout import Layout
from yokai_assets.training.export import diffusers_path
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.record import Checkpoint, TrainingRecordError, finished_checkpoints, removed_checkpoints

STAGE = "lora_model"


def checkpoint_removals(layout: Layout, count: int, needed: Mapping[str, str]) -> tuple[list[Removal], list[Kept]]:
    """Name the checkpoints beyond `count` of each character whose LoRA is judged.

    Args:
        layout: Where they lie.
        count: How many stay, best judged first, the chosen and the last one among them.
        needed: Character -> why its checkpoints are needed still.
    """
    removals: list[Removal] = []
    kept: list[Kept] = []
    folder = layout.lora("x").parent
    for character in sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []:
        removal = _removal(layout, character, count)
        if removal is None:
            continue
        if character in needed:
            kept.append(Kept(STAGE, character, removal.size_bytes, needed[character]))
        else:
            removals.append(removal)
    return removals, kept


def _removal(layout: Layout, character: str, count: int) -> Removal | None:
    try:
        files = TrainingFiles.of_character(layout, character)
        checkpoints, judged = finished_checkpoints(files), load_evaluation(layout, character)
        left_over = removed_checkpoints(files)
    except (EvaluationError, TrainingRecordError):
        return None  # not judged yet, or a record that nothing can be decided by
    if all(layout.relative(checkpoint.path) != judged.chosen_checkpoint for checkpoint in checkpoints):
        return None  # trained again since
    staying = _staying(checkpoints, judged, count)
    paths = [
        path
        for checkpoint in checkpoints
        if checkpoint.step not in staying
        for path in (checkpoint.path, diffusers_path(checkpoint.path))
        if path.exists()
    ]
    paths += [path for path in left_over if path.exists()]  # noted by a pass that was killed before it removed them
    if not paths:
        return None
    size_bytes = sum(path.stat().st_size for path in paths)
    why = f"judged; step {judged.chosen_step} was chosen; {len(staying)} of {len(checkpoints)} stay"
    return Removal(STAGE, character, tuple(paths), size_bytes, why, "checkpoints_per_character")


def _staying(checkpoints: list[Checkpoint], judged: EvaluationRecord, count: int) -> set[int]:
    """Return the steps that stay: chosen and last, then the best judged, then later ones."""
    scores = {row.step: row.score for row in judged.checkpoints if row.checkpoint and row.score is not None}
    always = {judged.chosen_step, checkpoints[-1].step}
    rest = sorted(
        (checkpoint.step for checkpoint in checkpoints if checkpoint.step not in always),
        key=lambda step: (scores.get(step, float("-inf")), step),
        reverse=True,
    )
    return {*always, *rest[: max(0, count - len(always))]}
