"""Judging a character's checkpoints: pictures on a fixed grid, measures against held-out images, the choice.

Training belongs to `training`; making the chosen checkpoint public to `publishing`. `evaluate_character` is
the way in, `load_evaluation` reads what it left.
"""

from yokai_assets.evaluation.choice import choose_checkpoint, score_checkpoint
from yokai_assets.evaluation.evaluate import EvaluationResult, evaluate_character
from yokai_assets.evaluation.grid import EvaluationError, find_checkpoints, select_checkpoints
from yokai_assets.evaluation.record import (
    AnchorRecord,
    CheckpointRecord,
    EvaluationRecord,
    Measure,
    PictureRecord,
    WeightRecord,
    load_evaluation,
)

__all__ = [
    "AnchorRecord",
    "CheckpointRecord",
    "EvaluationError",
    "EvaluationRecord",
    "EvaluationResult",
    "Measure",
    "PictureRecord",
    "WeightRecord",
    "choose_checkpoint",
    "evaluate_character",
    "find_checkpoints",
    "load_evaluation",
    "score_checkpoint",
    "select_checkpoints",
]
