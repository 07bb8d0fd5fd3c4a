"""Verdicts: thresholds at their edge, and what the words say."""

from typing import Any

import polars as pl
import pytest

from yokai_assets.evaluation import verdicts
from yokai_assets.settings.model import EvaluationSettings
from yokai_assets.tables import EVALUATIONS

SETTINGS = EvaluationSettings.model_validate(
    {"min_covered_share": 0.4, "min_identification": 0.9, "max_memorised_share": 0.3, "max_prompt_loss": 0.7}
)


def row(**changes: Any) -> dict[str, Any]:
    """Return the row of a sound checkpoint as the table gives it back, with some values changed."""
    names = ("resemblance", "identification", "diversity", "memorised_share")
    values = {f"{name}{end}": 0.0 for name in names for end in ("", "_low", "_high")}
    values |= {
        "character_id": "cluster_000", "step": 100, "checkpoint": "c", "image_count": 20, "defect_count": 0,
        "real_to_real": 0.9, "resemblance": 0.8, "resemblance_gain": 0.2, "resemblance_gain_low": 0.1,
        "resemblance_gain_high": 0.3, "covered_share": 0.7, "identification": 1.0, "memorised_share": 0.0,
        "prompt_following": 0.05, "prompt_loss": 0.1, "is_chosen": True,
    }  # fmt: skip
    return EVALUATIONS.from_rows([values | changes]).row(0, named=True)


def test_a_measure_at_its_threshold_passes_after_the_table_has_rounded_it():
    """Protects 18 of 20 pictures against a threshold of 0.9: the table holds 32-bit floats."""
    at_threshold = row(covered_share=0.4, identification=0.9, memorised_share=0.3, prompt_loss=0.7)
    assert at_threshold["identification"] != 0.9
    assert verdicts.refusals(at_threshold, SETTINGS) == {}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"covered_share": 0.39}, "lora_beats_base"),
        ({"resemblance_gain_low": 0.0}, "lora_beats_base"),
        ({"covered_share": None, "resemblance_gain_low": -0.1}, "lora_beats_base"),
        ({"identification": 0.85}, "lora_draws_this_character"),
        ({"memorised_share": 0.35}, "lora_does_not_copy"),
        ({"prompt_loss": 0.75}, "lora_follows_prompts"),
        ({"defect_count": 3}, "pictures_are_pictures"),
    ],
)
def test_each_measure_beyond_its_threshold_forbids_publication(changes: dict[str, Any], name: str):
    """Protects users of published LoRAs from each fault by itself."""
    refused = verdicts.refusals(row(**changes), SETTINGS)
    assert list(refused) == [name]
    assert "expected" in refused[name].words and refused[name].remedy in refused[name].words


def test_a_few_broken_pictures_are_a_warning():
    """Protects from throwing a LoRA away for one black picture of twenty; it is told all the same."""
    verdict = verdicts.pictures_are_sound(row(defect_count=2), SETTINGS)
    assert not verdict.passed and not verdict.is_blocking


def test_a_base_model_that_knows_the_character_asks_for_a_sure_gain_only():
    """Protects famous characters: where base pictures are as near as real ones there is no way to cover a share of."""
    verdict = verdicts.beats_base(row(covered_share=None), SETTINGS)
    assert verdict.passed and "as near to held-out images as real ones are" in verdict.actual


def test_prompts_that_the_base_does_not_follow_are_not_held_against_a_lora():
    """Protects LoRAs on weak base models, and says that nothing can be told."""
    verdict = verdicts.follows_prompts(row(prompt_loss=None), SETTINGS)
    assert verdict.passed and "cannot be told" in verdict.actual


@pytest.mark.parametrize(("losses", "passed"), [((0.5, 0.4, 0.402), True), ((0.5, 0.4, 0.41), False)])
def test_a_rising_loss_is_told_and_stops_nothing(losses: tuple[float, ...], passed: bool):
    """Protects the sign of overfitting, and that later losses than the chosen step's do not count."""
    rows = [row(step=step, validation_loss=loss, is_chosen=step == 2) for step, loss in enumerate([*losses, 0.1])]
    verdict = verdicts.loss_is_not_rising(EVALUATIONS.conform(pl.DataFrame(rows, schema=EVALUATIONS.schema)))
    assert verdict.passed is passed and not verdict.is_blocking
