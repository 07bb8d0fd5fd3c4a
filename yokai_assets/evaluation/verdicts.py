"""Is a LoRA good enough to be published? The same verdicts for checks, for publication and for people.

A verdict compares one measure of the chosen checkpoint with a threshold of the settings. Measuring is `judging`;
choosing among checkpoints is `choice`; who is stopped by a verdict is decided where it is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from yokai_assets.settings.model import EvaluationSettings

RISING_SHARE = 0.01
"""A loss on held-out images counts as rising from this share above its lowest value on."""

_ROUNDING = 1e-6
"""Tables hold 32-bit floats: 18 of 20 pictures must reach a threshold of 0.9."""

Measures = Mapping[str, Any]
"""A row of `EVALUATIONS`, or what `CheckpointRecord.measured` returns."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one comparison.

    Attributes:
        passed: The measure is within the threshold.
        is_error: A failure forbids publication; else it is a warning.
        expected: The threshold, in words.
        actual: The measure, in words.
        remedy: What to do where it did not pass.
        numbers: The measures behind it, by name.
    """

    passed: bool
    is_error: bool
    expected: str
    actual: str
    remedy: str
    numbers: dict[str, float | int] = field(default_factory=dict)

    @property
    def is_blocking(self) -> bool:
        """Whether it forbids publication."""
        return not self.passed and self.is_error

    @property
    def words(self) -> str:
        """The verdict in one paragraph."""
        return self.actual if self.passed else f"{self.actual}; expected {self.expected}. {self.remedy}"


def beats_base(best: Measures, settings: EvaluationSettings) -> Verdict:
    """Pictures resemble the character's held-out images more than the base model's do, by a margin.

    Where the base model's are as near already as real ones are to each other there is no distance to cover a share
    of: there it is enough that the gain is surely above zero.
    """
    least = settings.min_covered_share
    covered, gain_low = best["covered_share"], best["resemblance_gain_low"] or 0.0
    gain = (
        f"cosine {best['resemblance_gain'] or 0.0:+.3f} [{gain_low:+.3f}, {best['resemblance_gain_high'] or 0.0:+.3f}] "
        f"against the base model at step {best['step']}"
    )
    remedy = (
        "Look at `sample_grid`. More steps, a higher `learning_rate`, or cleaner training images (see `contact_sheet` "
        "of `training_dataset`) usually help."
    )
    if covered is None:
        share = "the base model's pictures are as near to held-out images as real ones are"
        remedy = f"Perhaps the base model knows this character and needs no LoRA. {remedy}"
    else:
        share = f"covers {covered:.0%} of the way"
    return Verdict(
        passed=gain_low > 0 and (covered is None or covered >= least - _ROUNDING),
        is_error=True,
        expected=f"surely nearer to held-out images than the base model, at least {least:.0%} of the way to real ones",
        actual=f"{share}; {gain}",
        remedy=remedy,
        numbers={
            **({} if covered is None else {"covered_share": covered}),
            "resemblance": best["resemblance"],
            "base_resemblance": best["resemblance"] - (best["resemblance_gain"] or 0.0),
        },
    )


def draws_this_character(best: Measures, settings: EvaluationSettings) -> Verdict:
    """The LoRA draws this character and not another one."""
    least = settings.min_identification
    return Verdict(
        passed=best["identification"] >= least - _ROUNDING,
        is_error=True,
        expected=f"for at least {least:.0%} of the pictures the nearest character is the right one",
        actual=f"{best['identification']:.0%} of the pictures",
        remedy="Look at `sample_grid`; train longer, or look in `character_registry` for two ids of one character "
        "(`yokai characters merge`).",
        numbers={"identification": best["identification"]},
    )


def does_not_copy(best: Measures, settings: EvaluationSettings) -> Verdict:
    """The LoRA draws new pictures: none nearer to a training image than any held-out image is, or few."""
    most = settings.max_memorised_share
    return Verdict(
        passed=best["memorised_share"] <= most + _ROUNDING,
        is_error=True,
        expected=f"at most {most:.0%} of the pictures nearer to a training image than any held-out image is",
        actual=f"{best['memorised_share']:.0%} of the pictures",
        remedy="Look at `closest_pairs`. Fewer steps, a lower rank, or more and more various training images help.",
        numbers={"memorised_share": best["memorised_share"]},
    )


def follows_prompts(best: Measures, settings: EvaluationSettings) -> Verdict:
    """Actions, places and views of the prompts still happen, as the base model does them; passes where it does not."""
    most = settings.max_prompt_loss
    loss = best["prompt_loss"]
    told = "cannot be told: the base model does not surely follow the prompts itself" if loss is None else f"{loss:.0%}"
    return Verdict(
        passed=loss is None or loss <= most + _ROUNDING,
        is_error=True,
        expected=f"at most {most:.0%} of the base model's prompt-following lost",
        actual=f"{told} ({best['prompt_following'] or 0.0:.3f})",
        remedy="Look at `sample_grid`: do pictures change with their prompt? Fewer steps, a lower `learning_rate`, or "
        "captions that name what varies (see `contact_sheet` of `training_dataset`) help.",
        numbers={} if loss is None else {"prompt_loss": loss},
    )


def pictures_are_sound(best: Measures, settings: EvaluationSettings) -> Verdict:
    """No picture is black, constant or not a number; a few are a warning, more than a share an error."""
    most = settings.max_defect_share
    return Verdict(
        passed=best["defect_count"] == 0,
        is_error=best["defect_count"] / best["image_count"] > most + _ROUNDING,
        expected="no picture black, constant or not a number",
        actual=f"{best['defect_count']} of {best['image_count']}",
        remedy="`defect` in `evaluation.json` names them. Not a number comes from half precision: set "
        "`training.mixed_precision` to bf16 or no, or use a VAE that is made for fp16.",
        numbers={"defect_count": best["defect_count"]},
    )


def loss_is_not_rising(table: pl.DataFrame) -> Verdict:
    """The loss on held-out images is not above its lowest value before the chosen step: a sign of overfitting."""
    best = chosen_row(table)
    before = table.filter(pl.col("step") <= best["step"]).drop_nulls("validation_loss")
    lowest = before.sort("validation_loss", "step").head(1).to_dicts()
    now = best["validation_loss"]
    if now is None or not lowest:
        return Verdict(True, False, "a loss on held-out images", "nothing was held out to tell", "")
    rise = now / lowest[0]["validation_loss"] - 1
    return Verdict(
        passed=rise <= RISING_SHARE,
        is_error=False,
        expected=f"at most {RISING_SHARE:.0%} above the lowest before",
        actual=f"{now:.4f} at step {best['step']}, {rise:+.1%} against {lowest[0]['validation_loss']:.4f} "
        f"at step {lowest[0]['step']}",
        remedy="Look at `loss_curve` of `lora_model` and `closest_pairs`; fewer steps or more images help.",
        numbers={"rise": rise},
    )


Judge = Callable[[Measures, EvaluationSettings], Verdict]

BLOCKING: dict[str, Judge] = {
    "lora_beats_base": beats_base,
    "lora_draws_this_character": draws_this_character,
    "lora_does_not_copy": does_not_copy,
    "lora_follows_prompts": follows_prompts,
    "pictures_are_pictures": pictures_are_sound,
}
"""Name of a verdict, and of its check in Dagster -> what judges it; its docstring describes the check."""


def refusals(measures: Measures, settings: EvaluationSettings) -> dict[str, Verdict]:
    """Return the verdicts that forbid publication of a checkpoint, by name.

    They are passed on the measures themselves, whatever was said of an older evaluation and whoever said it.
    """
    found = {name: judge(measures, settings) for name, judge in BLOCKING.items()}
    return {name: verdict for name, verdict in found.items() if verdict.is_blocking}


def chosen_row(table: pl.DataFrame) -> dict[str, Any]:
    """Return the row of `EVALUATIONS` of the chosen checkpoint."""
    return table.filter("is_chosen").row(0, named=True)
