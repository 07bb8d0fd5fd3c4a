"""Making a checkpoint public: final name, complete header, sidecar, thumbnail, model card, older versions kept.

Which checkpoint is decided by `evaluation`. The older version is kept first. Then everything new is made under other
names and takes its place within an instant, the LoRA before what speaks of it. Its header and the sidecar name the same
weights: after a kill in that instant no reader takes the old sidecar for the new LoRA's (`read_sidecar`), and the next
call brings everything in line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from upath import UPath

from yokai_assets.evaluation.record import EvaluationRecord
from yokai_assets.publishing.card import model_card
from yokai_assets.publishing.pictures import best_picture, data_url, write_pictures
from yokai_assets.publishing.sidecar import (
    WEIGHTS_KEY,
    PublicationRecord,
    Rejection,
    judged_as_published,
    merge_sidecar,
    read_written,
    sd_version,
)
from yokai_assets.publishing.versions import hash_if_readable, keep_version
from yokai_assets.storage.files import as_json, whole_files, write_json, write_text
from yokai_assets.storage.folders import local_copy
from yokai_assets.storage.layout import Layout
from yokai_assets.training.export import diffusers_path
from yokai_assets.training.safetensors_header import (
    LoraFileError,
    copy_with_metadata,
    data_sha256,
    read_header,
    tensors_sha256,
)

_SCORE_TOLERANCE = 1e-6
_OF_THE_LAYOUT = ("format", "lora_adapter_metadata", "modelspec.hash_sha256", "sshs_model_hash")

PublicationState = Literal["published", "replaced", "unchanged", "kept_better"]


@dataclass(frozen=True, slots=True)
class PublishedLora:
    """What publishing did.

    Attributes:
        path: The published LoRA.
        state: `published` (there was none), `replaced` (the old one is kept under `previous`), `unchanged` (the
            same weights; texts refreshed) or `kept_better` (the published one scores higher and stays).
        reason: In words.
        step: Training step of the published weights.
        score: Score of the published weights; None where a kept file has no record.
        suggested_weight: Weight that is suggested for them; None where a kept file's judgement is not known.
        previous: Where the replaced version lies now.
        tensors_sha256: Hash of the published weights.
        size_bytes: Size of the published file.
        sidecar: JSON for A1111 and Forge.
        preview: Thumbnail.
        card: Model card.
        rejected: The new LoRA that was not published; None unless the state is `kept_better`.
    """

    path: UPath
    state: PublicationState
    reason: str
    step: int
    score: float | None
    suggested_weight: float | None
    previous: UPath | None
    tensors_sha256: str
    size_bytes: int
    sidecar: UPath
    preview: UPath
    card: UPath
    rejected: Rejection | None = None


def publish_lora(
    character_id: str,
    evaluation: EvaluationRecord,
    layout: Layout,
    *,
    lineage: Mapping[str, str] | None = None,
    is_worse_allowed: bool = False,
    at: datetime | None = None,
) -> PublishedLora:
    """Publish the checkpoint that an evaluation chose.

    Args:
        character_id: The character.
        evaluation: Its evaluation; pictures are taken from `layout.lora_tests(character_id)`.
        layout: Where files lie.
        lineage: What made the LoRA (data versions, run, code version), for header and model card.
        is_worse_allowed: Publish even where the published one has a higher, comparable score.
        at: Time of publication; unset: now.

    Raises:
        LoraFileError: The chosen checkpoint is missing, damaged, or not the file that was judged.
    """
    files = _Files.of(character_id, layout)
    checkpoint = layout.absolute(evaluation.chosen_checkpoint)
    if not checkpoint.exists():
        raise LoraFileError(
            f"{checkpoint}: the checkpoint that the evaluation chose is gone. Materialize lora_model and "
            "lora_evaluation of this character again."
        )
    moment = (at or datetime.now(UTC)).isoformat(timespec="seconds")
    previous_values, previous_record = read_written(files.sidecar)
    with local_copy(checkpoint) as source:
        new_hash = tensors_sha256(source)
        if evaluation.chosen.tensors_sha256 not in (None, new_hash):
            raise LoraFileError(
                f"{checkpoint}: not the file that was judged; the LoRA was trained again since. "
                "Materialize lora_evaluation of this character again."
            )
        old_hash = hash_if_readable(files.lora)
        is_other = old_hash not in (None, new_hash)
        if is_other and previous_record and not is_worse_allowed and _is_better(previous_record, old_hash, evaluation):
            rejected = _rejection(evaluation, previous_record, new_hash, moment)
            return _kept(files, previous_values, previous_record, rejected)
        previous = keep_version(files.lora, old_hash) if files.lora.exists() and old_hash != new_hash else None
        record = PublicationRecord(
            tensors_sha256=new_hash,
            step=evaluation.chosen_step,
            score=evaluation.chosen.score or 0.0,
            evaluation_fingerprint=evaluation.fingerprint,
            base_model=evaluation.base_model,
            base_fingerprint=evaluation.base_fingerprint,
            published_at=moment,
            lineage=_lineage(evaluation, lineage or {}),
            evaluation=judged_as_published(evaluation, files.samples.name),
        )
        _write(files, source, checkpoint, evaluation, record, layout, (previous_values, previous_record))
    state, reason = _state(evaluation, previous_record, previous, is_same=old_hash == new_hash)
    return PublishedLora(
        path=files.lora,
        state=state,
        reason=reason,
        step=evaluation.chosen_step,
        score=evaluation.chosen.score,
        suggested_weight=evaluation.suggested_weight,
        previous=previous,
        tensors_sha256=new_hash,
        size_bytes=files.lora.stat().st_size,
        sidecar=files.sidecar,
        preview=files.preview,
        card=files.card,
    )


def _write(
    files: "_Files",
    source: Path,
    checkpoint: UPath,
    evaluation: EvaluationRecord,
    record: PublicationRecord,
    layout: Layout,
    before: tuple[dict[str, Any], PublicationRecord | None],
) -> None:
    """Make every file of a publication, and put them into their places as nearly at once as a folder allows."""
    thumbnail = best_picture(evaluation, layout)
    metadata = _completed(source, evaluation, record, thumbnail)
    of_diffusers = diffusers_path(checkpoint)
    with whole_files(files.all) as (lora, diffusers, sidecar, preview, samples, card):
        copy_with_metadata(source, lora, metadata)
        if of_diffusers.exists():
            _copy_diffusers_layout(of_diffusers, diffusers, metadata)
        else:
            # Before the new LoRA is there: older weights must not lie beside newer ones.
            files.diffusers.unlink(missing_ok=True)
        sidecar.write_text(as_json(merge_sidecar(*before, _sidecar_values(evaluation, metadata), record)), "utf-8")
        write_pictures(thumbnail, evaluation, layout, preview, samples)
        text = model_card(
            evaluation,
            metadata=metadata,
            lineage={**record.lineage, "weights_sha256": record.tensors_sha256},
            file=files.lora.name,
            samples=files.samples.name,
            size_bytes=lora.stat().st_size,
        )
        card.write_text(text, "utf-8")


@dataclass(frozen=True, slots=True)
class _Files:
    lora: UPath
    diffusers: UPath
    sidecar: UPath
    preview: UPath
    samples: UPath
    card: UPath

    @property
    def all(self) -> list[UPath]:
        """All of them, in the order in which they take their places."""
        return [self.lora, self.diffusers, self.sidecar, self.preview, self.samples, self.card]

    @classmethod
    def of(cls, character_id: str, layout: Layout) -> "_Files":
        folder = layout.lora(character_id)
        lora = folder / f"{character_id}.safetensors"
        return cls(
            lora=lora,
            diffusers=diffusers_path(lora),
            sidecar=folder / f"{character_id}.json",
            preview=folder / f"{character_id}.preview.png",
            samples=folder / f"{character_id}.samples.webp",
            card=folder / "README.md",
        )


def _is_better(published: PublicationRecord, old_hash: str | None, evaluation: EvaluationRecord) -> bool:
    """Say whether the published weights have a higher score that compares with the new one."""
    return (
        published.tensors_sha256 == old_hash
        and published.evaluation_fingerprint == evaluation.fingerprint
        and published.score > (evaluation.chosen.score or 0.0) + _SCORE_TOLERANCE
    )


def _rejection(evaluation: EvaluationRecord, published: PublicationRecord, new_hash: str, moment: str) -> Rejection:
    score = evaluation.chosen.score or 0.0
    return Rejection(
        step=evaluation.chosen_step,
        score=score,
        tensors_sha256=new_hash,
        rejected_at=moment,
        reason=f"The published LoRA (step {published.step}, score {published.score:.3f}) is better than the new one "
        f"(step {evaluation.chosen_step}, score {score:.3f}) on the same pictures and stays.",
    )


def _kept(files: _Files, values: dict[str, Any], published: PublicationRecord, rejected: Rejection) -> PublishedLora:
    """Leave the published LoRA as it is, and say in its sidecar and card which newer one was rejected."""
    record = published.model_copy(update={"rejected": rejected})
    write_json(files.sidecar, {**values, "yokai": record.model_dump(mode="json")})
    size_bytes = files.lora.stat().st_size
    if published.evaluation is not None:
        card = model_card(
            published.evaluation,
            metadata=read_header(files.lora).metadata,
            lineage={**published.lineage, "weights_sha256": published.tensors_sha256},
            file=files.lora.name,
            samples=files.samples.name,
            size_bytes=size_bytes,
            rejected=f"{rejected.reason} ({rejected.rejected_at})",
        )
        write_text(files.card, card)
    return PublishedLora(
        path=files.lora,
        state="kept_better",
        reason=f"{rejected.reason} To replace it all the same, materialize published_lora with `replace_better`.",
        step=published.step,
        score=published.score,
        suggested_weight=published.evaluation.suggested_weight if published.evaluation else None,
        previous=None,
        tensors_sha256=published.tensors_sha256,
        size_bytes=size_bytes,
        sidecar=files.sidecar,
        preview=files.preview,
        card=files.card,
        rejected=rejected,
    )


def _state(
    evaluation: EvaluationRecord, record: PublicationRecord | None, previous: UPath | None, *, is_same: bool
) -> tuple[PublicationState, str]:
    score = evaluation.chosen.score or 0.0
    if is_same:
        return "unchanged", f"Step {evaluation.chosen_step} is published already; texts and pictures are refreshed."
    if previous is None:
        return "published", f"First publication: step {evaluation.chosen_step}, score {score:.3f}."
    kept = f"the previous version is kept as {previous.name}"
    if record is None:
        return "replaced", f"Step {evaluation.chosen_step} replaces a file without a record; {kept}."
    if record.evaluation_fingerprint != evaluation.fingerprint:
        return "replaced", (
            f"Step {evaluation.chosen_step} (score {score:.3f}) replaces step {record.step} "
            f"(score {record.score:.3f}); the scores were measured on different pictures and do not compare; {kept}."
        )
    relation = "better" if score >= record.score else "WORSE, as asked for"
    return "replaced", (
        f"Step {evaluation.chosen_step} (score {score:.3f}) replaces step {record.step} (score {record.score:.3f}): "
        f"{relation}; {kept}."
    )


def _lineage(evaluation: EvaluationRecord, given: Mapping[str, str]) -> dict[str, str]:
    return {
        "series": evaluation.series,
        "character": evaluation.character_id,
        "checkpoint": evaluation.chosen_checkpoint,
        "base_fingerprint": evaluation.base_fingerprint,
        "embedding_fingerprint": evaluation.embedding_fingerprint,
        "evaluation_fingerprint": evaluation.fingerprint,
        **{str(key): str(value) for key, value in given.items()},
    }


def _completed(
    source: Path, evaluation: EvaluationRecord, record: PublicationRecord, thumbnail: Image.Image
) -> dict[str, str]:
    """Return the trained file's metadata with what publishing knows. Values are strings, as the format wants."""
    trained = read_header(source).metadata
    chosen = evaluation.chosen
    digest = data_sha256(source)
    ours = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": f"{evaluation.series} {evaluation.character_id}",
        "modelspec.description": f"Character LoRA of {evaluation.character_id}, series {evaluation.series}.",
        "modelspec.trigger_phrase": evaluation.trigger,
        "modelspec.usage_hint": f"Prompt with `{evaluation.trigger}`, weight {evaluation.suggested_weight:g}.",
        "modelspec.tags": f"character,lora,{evaluation.series}",
        "modelspec.thumbnail": data_url(thumbnail),
        "modelspec.hash_sha256": f"0x{digest}",
        "sshs_model_hash": digest,
        "ss_output_name": evaluation.character_id,
        WEIGHTS_KEY: record.tensors_sha256,
        "yokai.published_at": record.published_at,
        "yokai.resemblance": f"{chosen.resemblance.mean:.4f}",
        "yokai.identification": f"{chosen.identification.mean:.4f}",
        "yokai.score": f"{chosen.score or 0.0:.4f}",
        **{f"yokai.{key}": value for key, value in record.lineage.items()},
    }
    defaults = {"modelspec.date": record.published_at}
    return {**defaults, **trained, **ours}


def _copy_diffusers_layout(source: UPath, target: Path, metadata: Mapping[str, str]) -> None:
    """Write the same weights in the layout of diffusers, with what only its header says."""
    with local_copy(source) as local:
        trained = read_header(local).metadata
        own = {key: trained[key] for key in _OF_THE_LAYOUT if key in trained}
        copy_with_metadata(local, target, {**metadata, **own})


def _sidecar_values(evaluation: EvaluationRecord, metadata: Mapping[str, str]) -> dict[str, Any]:
    chosen = evaluation.chosen
    return {
        "description": f"{evaluation.series}, {evaluation.character_id}, step {evaluation.chosen_step}",
        "sd version": sd_version(metadata.get("modelspec.architecture", "")),
        "activation text": evaluation.trigger,
        "preferred weight": evaluation.suggested_weight,
        "negative text": "",
        "notes": f"Resemblance {chosen.resemblance.mean:.3f} (base model {evaluation.base.resemblance.mean:.3f}, real "
        f"images {evaluation.real_to_real.mean:.3f}); recognised in {chosen.identification.mean:.0%} of "
        f"{chosen.own_count} pictures. Base: {evaluation.base_model}. Details: README.md.",
    }
