"""Which checkpoint is published: one score, its parts, and the reason in words.

The score only; its inputs are measured in `measures`. Resemblance dominates. The other measures are guards:
they take away only beyond a tolerance, so that noise in them does not decide. A checkpoint that would not be published
(`verdicts`) is chosen only where none would be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

IDENTIFICATION_WEIGHT = 0.25
PROMPT_LOSS_TOLERANCE = 0.25
DIVERSITY_FLOOR = 0.5
MEMORISED_TOLERANCE = 0.25


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the score is made of, for one checkpoint.

    Attributes:
        step: Training step.
        likeness: Share of the distance base to real that is covered, -1 to 1.5; where that is undefined, the
            resemblance.
        identification: Share of pictures recognised as the right character (0-1).
        prompt_loss: Share of the base model's prompt-following that is lost (0-1); 0 where it cannot be told.
        diversity_ratio: Diversity of drawn pictures over that of real ones.
        memorised_share: Share of pictures suspiciously near to a training picture (0-1).
        defect_share: Share of pictures that are black, constant or not a number (0-1).
        refusals: Names of the verdicts that forbid its publication.
    """

    step: int
    likeness: float
    identification: float
    prompt_loss: float
    diversity_ratio: float
    memorised_share: float
    defect_share: float = 0.0
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """A checkpoint's score and what each guard took away or added."""

    step: int
    total: float
    parts: dict[str, float]


def score_checkpoint(judgement: Judgement) -> Score:
    """Return the score of a checkpoint.

    `score = likeness + 0.25 identification - max(0, prompt_loss - 0.25) - max(0, 0.5 - diversity_ratio)
    - max(0, memorised_share - 0.25) - defect_share`, all in shares of the distance from the base model (0) to
    real pictures (1).
    """
    parts = {
        "likeness": judgement.likeness,
        "identification": IDENTIFICATION_WEIGHT * judgement.identification,
        "prompt following": -max(0.0, judgement.prompt_loss - PROMPT_LOSS_TOLERANCE),
        "diversity": -max(0.0, DIVERSITY_FLOOR - judgement.diversity_ratio),
        "memorising": -max(0.0, judgement.memorised_share - MEMORISED_TOLERANCE),
        "defects": -judgement.defect_share,
    }
    return Score(judgement.step, sum(parts.values()), parts)


def choose_checkpoint(judgements: Sequence[Judgement]) -> tuple[Score, list[Score], str]:
    """Return the best score, all scores in order of steps, and the reason of the choice.

    The best is looked for among checkpoints that no verdict forbids to publish, if there are any: one that is overdone
    must not keep a sound earlier one from being published. Equal scores are won by the earlier step: less training,
    less risk.

    Raises:
        ValueError: There is nothing to choose from.
    """
    if not judgements:
        raise ValueError("no checkpoint to choose from")
    known = {judgement.step: judgement for judgement in judgements}
    scores = [score_checkpoint(known[step]) for step in sorted(known)]
    candidates = [score for score in scores if not known[score.step].refusals] or scores
    best = max(candidates, key=_rank)
    return best, scores, _reason(best, scores, known)


def _rank(score: Score) -> tuple[float, int]:
    return round(score.total, 9), -score.step


def _reason(best: Score, scores: Sequence[Score], judgements: dict[int, Judgement]) -> str:
    chosen = judgements[best.step]
    others = sorted((score for score in scores if score.step != best.step), key=_rank, reverse=True)
    passed_over = [score for score in others if _rank(score) > _rank(best)]
    kind = "only" if not others else "highest" if not passed_over else "highest publishable"
    words = [
        f"step {best.step} has the {kind} score ({best.total:.3f}): "
        f"likeness {chosen.likeness:.2f} (0 = base model, 1 = real pictures), "
        f"{chosen.identification:.0%} of its pictures recognised as this character"
    ]
    words += [
        f"{-value:.2f} taken off for {name}"
        for name, value in best.parts.items()
        if value < -0.005 and name != "likeness"
    ]
    words += [
        f"step {score.step} scores {score.total:.3f} and fails {', '.join(judgements[score.step].refusals)}"
        for score in passed_over
    ]
    beaten = [score for score in others if score not in passed_over]
    if beaten:
        words.append(_next_best(best, beaten[0]))
    if chosen.refusals:
        words.append(f"it fails {', '.join(chosen.refusals)}" + (", as every other does some check" if others else ""))
    return "; ".join(words) + "."


def _next_best(best: Score, second: Score) -> str:
    costs = {name: best.parts[name] - value for name, value in second.parts.items()}
    name, gap = max(costs.items(), key=lambda item: item[1])
    return f"next is step {second.step} ({second.total:.3f})" + (f", which loses most in {name}" if gap > 0.005 else "")
