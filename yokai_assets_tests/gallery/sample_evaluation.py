"""What evaluation would leave of a made-up series: checkpoints, records, pictures, comparison. The rest: `sample`."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from yokai_assets.demo.creatures import draw_creature, sample_design, sample_pose
from yokai_assets.evaluation import (
    AnchorRecord,
    CheckpointRecord,
    EvaluationRecord,
    Measure,
    PictureRecord,
    WeightRecord,
)
from yokai_assets.evaluation.comparison import ComparisonRow, comparison_grid
from yokai_assets.storage.files import write_bytes, write_json, write_text
from yokai_assets.storage.parquet import write_table
from yokai_assets.tables import LORA_COMPARISONS
from yokai_assets_tests.evaluation.fakes import write_safetensors

if TYPE_CHECKING:
    from yokai_assets_tests.gallery.sample import SampleSeries

GROUNDS = [(205, 225, 240), (225, 235, 210), (245, 230, 205), (230, 215, 235)]


class SampleEvaluation:
    """Writes how the LoRAs of a series were judged, with plausible numbers."""

    def __init__(self, sample: "SampleSeries") -> None:
        self._sample = sample

    def write_record(self, name: str) -> EvaluationRecord:
        """Write checkpoints, training record, test pictures and record, with plausible numbers."""
        quality = float(self._sample.rng.uniform(0.5, 1.0))
        folder = self._sample.layout.lora_tests(name)
        checkpoint = self._sample.layout.lora(name) / f"{name}-step002000.safetensors"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        header = {"modelspec.architecture": "stable-diffusion-v1/lora", "ss_steps": "2000", "ss_network_dim": "32"}
        write_safetensors(checkpoint, header, name.encode())
        steps = np.arange(1, 2001)
        losses = 0.09 + 0.11 * np.exp(-steps / 300) + self._sample.rng.normal(0, 0.02, 2000)
        write_json(
            self._sample.layout.lora(name) / f"{name}-training.json",
            {
                "base_model": "stable-diffusion-v1-5", "losses": losses.round(5).tolist(),
                "validation_losses": [[step, 0.1 + 0.1 * float(np.exp(-step / 400))] for step in range(0, 2001, 250)],
                "train_count": self._sample.image_count - 2, "held_out_count": 2, "seconds": 1480.0,
                "images_per_second": 2.7,
                "config": {"network_dim": 32, "learning_rate": 1e-4, "train_batch_size": 2, "resolution_px": 512},
            },
        )  # fmt: skip
        pictures, shown = [], {0: [], 500: [], 2000: []}
        prompts = ["{trigger}", "{trigger}, full body, simple background", "a forest path, nobody"]
        for step in shown:
            for prompt_index, prompt in enumerate(prompts):
                for seed in range(2):
                    file = f"step{step:06d}_prompt{prompt_index}_seed{seed}.png"
                    image = self._drawn(name, step, has_trigger=prompt_index < 2)
                    judged = {
                        "resemblance": 0.7, "recognised_as": name, "nearest_training_image": "s01e01/000001/9",
                        "nearest_training_cosine": 0.8 + seed / 100,
                    }  # fmt: skip
                    shown[step].append(image)
                    buffer = io.BytesIO()
                    image.save(buffer, "PNG")
                    write_bytes(folder / file, buffer.getvalue())
                    pictures.append(
                        PictureRecord(
                            step=step, prompt_index=prompt_index, seed=seed, file=file,
                            prompt=prompt.replace("{trigger}", self._sample.trigger(name)),
                            **({} if prompt_index == 2 else judged),
                        )
                    )  # fmt: skip
        rows = [self._checkpoint(name, step, quality) for step in shown]
        record = EvaluationRecord(
            series=self._sample.series, character_id=name, trigger=self._sample.trigger(name), chosen_step=2000,
            chosen_checkpoint=self._sample.layout.relative(checkpoint),
            reason="step 2000 has the highest score (1.012): likeness 0.81 (0 = base model, 1 = real pictures), "
            "97% of its pictures recognised as this character; next is step 500 (0.741), which loses most in likeness.",
            notes=["Only 4 held-out image(s): the measures are rough."], fingerprint="f", base_model="sd15",
            base_fingerprint="b", embedding_fingerprint="clip", is_cut_out=True, reference="held_out",
            reference_count=2, training_count=self._sample.image_count - 2,
            characters_compared=self._sample.character_count,
            real_to_real=Measure(mean=0.91, low=0.89, high=0.93), real_diversity=0.11, memorising_yardstick=0.97,
            prompts=prompts, seeds=[0, 1], inference_steps=25, guidance_scale=7.0, side_px=self._sample.side_px,
            anchors=self._anchors(name, rows), suggested_weight=0.8,
            weight_reason="Weight 0.8 has the best score (1.04) of 3 tried; at weight 1 it is 1.012.",
            weights=[
                WeightRecord(
                    weight=weight, score=score, score_parts={"likeness": score - 0.2}, covered_share=score - 0.2,
                    identification=0.97, prompt_following=0.1,
                )
                for weight, score in ((0.6, 0.8), (0.8, 1.04), (1.0, 1.012))
            ],
            checkpoints=rows, pictures=pictures, comparison="comparison.webp", seconds=92.0,
        )  # fmt: skip
        grid = comparison_grid(
            [ComparisonRow(f"step {step}" if step else "base model", "", images) for step, images in shown.items()],
            [prompts[0], "", prompts[1], "", prompts[2], ""],
        )
        buffer = io.BytesIO()
        grid.save(buffer, "WEBP")
        write_bytes(folder / "comparison.webp", buffer.getvalue())
        write_bytes(folder / "weights.webp", buffer.getvalue())
        write_text(folder / "evaluation.json", record.model_dump_json())
        return record

    def _drawn(self, name: str, step: int, *, has_trigger: bool = True) -> Image.Image:
        if step == 0 or not has_trigger:
            other = sample_design(self._sample.rng)
            image = Image.new("RGB", (self._sample.side_px, self._sample.side_px), GROUNDS[0])
            creature = draw_creature(other, sample_pose(self._sample.rng), self._sample.side_px)
            image.paste(creature, (0, 0), creature)
            return image.filter(ImageFilter.GaussianBlur(self._sample.side_px / 60))
        image = self._sample.picture(name, self._sample.side_px, ground=True)
        return image.filter(ImageFilter.GaussianBlur(self._sample.side_px / (90 if step == 500 else 300)))

    def _checkpoint(self, name: str, step: int, quality: float) -> CheckpointRecord:
        checkpoint = self._sample.layout.lora(name) / f"{name}-step{step:06d}.safetensors"
        covered = {0: 0.0, 500: 0.6 * quality, 2000: quality}[step]
        resemblance = 0.55 + covered * 0.36

        def around(mean: float, half: float = 0.02) -> Measure:
            return Measure(mean=mean, low=max(0.0, mean - half), high=min(1.0, mean + half))

        return CheckpointRecord(
            step=step,
            checkpoint=self._sample.layout.relative(checkpoint) if step else None,
            image_count=4, defect_count=0, resemblance=around(resemblance),
            resemblance_gain=around(resemblance - 0.55) if step else None,
            covered=Measure(mean=covered, low=covered - 0.05, high=covered + 0.05),
            identification=around(0.1 + 0.9 * covered, 0.08), text_similarity=around(0.27),
            prompt_following=around(0.1), prompt_loss=around(0.1) if step else None, diversity=around(0.12),
            memorised_share=around(0.02), bleeding=around(0.05) if step else None,
            validation_loss=0.1 + 0.1 * float(np.exp(-step / 400)) if step else None,
            recognised_as={name: 4}, score=0.2 + covered if step else None,
        )  # fmt: skip

    def write_comparison(self) -> None:
        """Write every LoRA against every character: the last LoRA has learnt only the style."""
        judged = [
            name for name in self._sample.ids if (self._sample.layout.lora_tests(name) / "evaluation.json").exists()
        ]
        rows = []
        for lora in judged:
            for character in judged:
                is_own = lora == character and (len(judged) < 3 or lora != judged[-1])
                value = float(self._sample.rng.normal(0.78 if is_own else 0.58, 0.025))
                rows.append(
                    {
                        "lora_character_id": lora, "character_id": character, "step": 2000, "image_count": 4,
                        "resemblance": value, "resemblance_low": value - 0.02, "resemblance_high": value + 0.02,
                        "covered_share": (value - 0.55) / 0.36, "recognised_share": 0.9 if is_own else 0.02,
                    }
                )  # fmt: skip
        if rows:
            write_table(
                LORA_COMPARISONS, LORA_COMPARISONS.from_rows(rows), self._sample.layout.table("lora_comparison")
            )

    def _anchors(self, name: str, rows: list[CheckpointRecord]) -> list[AnchorRecord]:
        """Real images, base model, another character's LoRA, this one."""

        def row(kind: str, text: str, source: CheckpointRecord, **changes: Any) -> AnchorRecord:
            measures = ("resemblance", "covered", "identification", "diversity", "memorised_share", "prompt_following")
            values = {measure: getattr(source, measure) for measure in measures}
            return AnchorRecord.model_validate({"kind": kind, "name": text, **values, **changes})

        base, chosen = rows[0], rows[-1]
        real = Measure(mean=0.91, low=0.89, high=0.93)
        whole = Measure(mean=1.0, low=1.0, high=1.0)
        nothing = {"memorised_share": None, "prompt_following": None}
        return [
            row("real", "real images", chosen, resemblance=real, covered=whole, identification=whole, **nothing),
            row("base", "base model", base),
            row(
                "other",
                f"LoRA of {self._sample.ids[-1]}",
                base,
                character_id=self._sample.ids[-1],
                prompt_following=None,
            ),
            row("this", "this LoRA, step 2,000", chosen, character_id=name),
        ]
