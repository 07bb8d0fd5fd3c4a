"""The model card: what a stranger needs to use a LoRA and to know its limits, as Markdown.

Words and numbers only, all from the evaluation record and the file's own header; writing is `publish`.
"""

import re
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from yokai_assets.evaluation.record import EvaluationRecord, Measure

_TRAINING_KEYS = {
    "ss_steps": "Steps of this checkpoint",
    "ss_max_train_steps": "Steps planned",
    "ss_learning_rate": "Learning rate",
    "ss_lr_scheduler": "Schedule",
    "ss_network_dim": "Rank",
    "ss_network_alpha": "Alpha",
    "ss_num_train_images": "Training images",
    "ss_total_batch_size": "Batch size",
    "ss_batch_size_per_device": "Batch size",
    "ss_resolution": "Resolution (px)",
    "ss_mixed_precision": "Precision",
    "ss_min_snr_gamma": "Min-SNR gamma",
    "ss_caption_dropout_rate": "Caption dropout",
    "ss_seed": "Seed",
    "ss_training_started_at": "Started (Unix time)",
}


def model_card(
    record: EvaluationRecord,
    *,
    metadata: Mapping[str, str],
    lineage: Mapping[str, str],
    file: str,
    samples: str,
    size_bytes: int,
    rejected: str = "",
) -> str:
    """Return the model card.

    Args:
        record: The evaluation whose chosen checkpoint is published.
        metadata: The safetensors header of the published file.
        lineage: What made it: names and versions or hashes.
        file: Name of the LoRA file.
        samples: Sample picture, relative to the card.
        size_bytes: Size of the LoRA file.
        rejected: Of a newer LoRA that was not published, and why; empty where there is none.
    """
    architecture = metadata.get("modelspec.architecture", "unknown architecture")
    training = {name: metadata[key] for key, name in _TRAINING_KEYS.items() if metadata.get(key)}
    return _environment().get_template("model_card.md.j2").render(
        title=metadata.get("modelspec.title", record.character_id),
        family_tag="stable-diffusion-xl" if "xl" in architecture else "stable-diffusion",
        series=record.series,
        trigger=record.trigger,
        base_model=record.base_model,
        architecture=architecture,
        file=file,
        samples=samples,
        size_bytes=size_bytes,
        weight=record.suggested_weight,
        weights=record.weights,
        weight_reason=record.weight_reason,
        prompts=[prompt.replace("{trigger}", record.trigger) for prompt in record.prompts],
        reason=record.reason,
        rejected=rejected,
        anchors=[anchor.name for anchor in record.anchors],
        measures=_measures(record),
        image_count=record.chosen.own_count,
        reference_count=record.reference_count,
        is_held_out=record.reference == "held_out",
        is_cut_out=record.is_cut_out,
        embedding_fingerprint=record.embedding_fingerprint,
        limits=_limits(record),
        training=sorted(training.items(), key=lambda item: list(_TRAINING_KEYS.values()).index(item[0])),
        lineage=list(lineage.items()),
    )  # fmt: skip


_MEASURES = {
    "resemblance": "Resemblance (cosine)",
    "covered": "Covered of the way from base model to real images",
    "identification": "Recognised among {characters}",
    "prompt_following": "Follows the prompt (image-text contrast)",
    "diversity": "Diversity (cosine distance)",
    "memorised_share": "Near-copies of training images",
}


def _measures(record: EvaluationRecord) -> list[dict[str, object]]:
    """Return a row per measure with a cell per anchor."""
    rows: list[dict[str, object]] = []
    for attribute, name in _MEASURES.items():
        cells = [_interval(getattr(anchor, attribute)) for anchor in record.anchors]
        if any(cells):
            rows.append({"name": name.format(characters=record.characters_compared), "cells": cells})
    return rows


def _limits(record: EvaluationRecord) -> list[str]:
    limits = list(record.notes)
    others = {n: c for n, c in record.chosen.recognised_as.items() if n != record.character_id}
    if others:
        name, count = max(others.items(), key=lambda item: item[1])
        limits.append(f"It was most often taken for {name} when not recognised ({count} picture(s)).")
    bleeding = record.chosen.bleeding
    limits.append(
        "Its effect on prompts without the trigger word was not measured."
        if bleeding is None
        else f"Pictures of prompts without the trigger word change by {bleeding.mean:.3f} in cosine distance "
        "(0: not at all)."
    )
    limits.append("It knows the character as the series shows it: views, clothes and places outside it may fail.")
    limits.append("Rights in the series stay with their owners; check them before publishing pictures or this file.")
    return limits


def _interval(measure: Measure | None) -> str:
    return "" if measure is None else f"{measure.mean:.3f} ({measure.low:.3f}–{measure.high:.3f})"


@cache
def _environment() -> Environment:
    # Markdown, not HTML: what could be taken for markup is escaped by the filters below.
    environment = Environment(  # noqa: S701
        loader=PackageLoader("yokai_assets.publishing"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["md"] = _escape_markdown
    environment.filters["code"] = lambda text: " ".join(str(text).replace("`", "'").replace("|", "\\|").split())
    return environment


def _escape_markdown(text: object) -> str:
    flat = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", flat)
