"""A made-up series on disk, as the stages would leave it: for tests, and for looking at the gallery.

`python -m yokai_assets_tests.gallery.sample FOLDER [CHARACTERS]` writes one and builds its gallery.
"""

import io
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageFilter
from upath import UPath

from yokai_assets.analysis.palette import PaletteColor
from yokai_assets.analysis.profile import (
    AttributeReading,
    CharacterProfile,
    CoAppearance,
    EpisodePresence,
    Exemplar,
    SizeStatistics,
)
from yokai_assets.demo.creatures import CreatureDesign, draw_creature, sample_design, sample_pose
from yokai_assets.evaluation import (
    AnchorRecord,
    CheckpointRecord,
    EvaluationRecord,
    Measure,
    PictureRecord,
    WeightRecord,
)
from yokai_assets.evaluation.comparison import ComparisonRow, comparison_grid
from yokai_assets.gallery import StageTime
from yokai_assets.publishing import publish_lora
from yokai_assets.registry import Registry, RegistryStore
from yokai_assets.storage.files import write_bytes, write_json, write_text
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import write_table
from yokai_assets.tables import (
    BACKGROUNDS,
    CAPTIONS,
    CHARACTERS,
    DATASET,
    DECISIONS,
    EVENTS,
    FRAMES,
    INSTANCES,
    LORA_COMPARISONS,
    MEMBERS,
)
from yokai_assets_tests.evaluation.fakes import write_safetensors

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GROUNDS = [(205, 225, 240), (225, 235, 210), (245, 230, 205), (230, 215, 235)]


@dataclass
class SampleSeries:
    """Writes what the stages leave behind. Sizes are small; shapes, names and schemas are the real ones.

    Attributes:
        root: Data root.
        character_count: Characters; the last two are too small and retired where there are more than three.
        series: Its name.
        episode_count: Episodes.
        side_px: Side of pictures.
        exemplar_count: Cut-outs per character.
        image_count: Training images per character, two of them held out.
        names: What people call characters, by number of the character.
        caption_end: Put behind every caption.
        ids: Ids of characters; unset: as the registry gives them.
    """

    root: Path
    character_count: int = 6
    series: str = "yokai watch"
    episode_count: int = 3
    side_px: int = 96
    exemplar_count: int = 4
    image_count: int = 6
    names: dict[int, str] = field(default_factory=dict)
    caption_end: str = ""
    ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.series = self.series.replace(" ", "-")
        self.layout = Layout(UPath(self.root), self.series)
        self.rng = np.random.default_rng(4)
        self.ids = self.ids or [f"cluster_{index:03d}" for index in range(self.character_count)]
        self.designs: dict[str, CreatureDesign] = {name: sample_design(self.rng) for name in self.ids}

    def state(self, index: int) -> str:
        """The last two characters are too small and retired."""
        back = self.character_count - index
        return {1: "retired", 2: "too_small"}.get(back, "active") if self.character_count > 3 else "active"

    def write(self) -> Layout:
        """Write everything: the first characters are published, then one per earlier status."""
        self.write_episodes()
        self.write_registry()
        for index, name in enumerate(self.ids):
            if self.state(index) != "active":
                continue
            last = self.character_count - 3 - index
            self.write_profile(name)
            self.write_dataset(name)
            if last >= 1 or self.character_count <= 3:
                record = self.write_evaluation(name)
                publish_lora(name, record, self.layout, at=AT)
        self.write_comparison()
        return self.layout

    def picture(self, name: str, side_px: int, ground: bool) -> Image.Image:
        creature = draw_creature(self.designs[name], sample_pose(self.rng), side_px)
        if not ground:
            return creature
        image = Image.new("RGB", creature.size, GROUNDS[self.rng.integers(len(GROUNDS))])
        image.paste(creature, (0, 0), creature)
        return image

    def write_episodes(self) -> None:
        for number in range(self.episode_count):
            episode = f"s01e{number + 1:02d}"
            frames = []
            for index in range(24):
                frame_id = f"{episode}/{index:06d}"
                status = "unreadable" if index == 23 else "dark" if index == 22 else "ok"
                frames.append(
                    {
                        "frame_id": frame_id, "episode": episode, "frame_index": index,
                        "source": f"{episode}/{index}.jpg", "status": status,
                        "representative": f"{episode}/{index - index % 2:06d}" if status == "ok" else None,
                    }
                )  # fmt: skip
            write_table(FRAMES, FRAMES.from_rows(frames), self.layout.table("frames", episode))
            write_table(BACKGROUNDS, self._plates(episode), self.layout.table("background_layers", episode))
            write_table(INSTANCES, self._instances(episode), self.layout.table("character_layers", episode))

    def _plates(self, episode: str) -> pl.DataFrame:
        rows = []
        for shot in range(3):
            path = self.layout.background_layers(episode) / f"{shot:04d}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            sky, ground = GROUNDS[shot], GROUNDS[(shot + 1) % len(GROUNDS)]
            plate = Image.linear_gradient("L").resize((self.side_px * 2, self.side_px))
            Image.composite(Image.new("RGB", plate.size, ground), Image.new("RGB", plate.size, sky), plate).save(
                str(path)
            )
            rows.append(
                {
                    "episode": episode, "shot": shot, "plate": self.layout.relative(path), "frame_count": 4,
                    "filled_share": 0.02, "width_px": plate.width, "height_px": plate.height,
                }
            )  # fmt: skip
        return BACKGROUNDS.from_rows(rows)

    def _instances(self, episode: str) -> pl.DataFrame:
        rows = []
        for index, name in enumerate(self.ids):
            for k in range(self.exemplar_count):
                if f"s01e{(index + k) % self.episode_count + 1:02d}" != episode:
                    continue
                path = self.layout.character_layers(episode) / f"{index:03d}_{k}.webp"
                path.parent.mkdir(parents=True, exist_ok=True)
                cutout = self.picture(name, self.side_px, ground=False)
                cutout.crop(cutout.getbbox()).save(str(path), quality=90)
                frame = index * self.exemplar_count + k
                rows.append(
                    {
                        "instance_id": f"{episode}/{frame:06d}/0", "frame_id": f"{episode}/{frame:06d}",
                        "episode": episode, "frame_index": frame, "instance_index": 0, "shot": frame // 4 % 3,
                        "x0": 0, "y0": 0, "x1": 90, "y1": 90, "frame_width_px": 384, "frame_height_px": 216,
                        "area_share": 0.1, "presence": 0.9, "edge_contact_share": 0.0, "sharpness": 300.0,
                        "lobe_count": 1, "luma_mean": 120.0, "weight": 2, "cutout": self.layout.relative(path),
                        "cutout_sha256": path.name, "frame_sha256": "f", "matte_fingerprint": "m",
                    }
                )  # fmt: skip
        return INSTANCES.from_rows(rows)

    def exemplar_ids(self, index: int) -> list[str]:
        return [
            f"s01e{(index + k) % self.episode_count + 1:02d}/{index * self.exemplar_count + k:06d}/0"
            for k in range(self.exemplar_count)
        ]

    def write_registry(self) -> None:
        rows, events = [], []
        for index, name in enumerate(self.ids):
            state = self.state(index)
            centroid = self.rng.normal(size=16)
            count = 7 if state == "too_small" else int(60 + 900 * 0.93**index)
            rows.append(
                {
                    "character_id": name, "state": state, "name": self.names.get(index), "member_count": count,
                    "episode_count": self.episode_count, "first_version": 1, "last_version": 2,
                    "exemplars": self.exemplar_ids(index),
                    "centroid": (centroid / np.linalg.norm(centroid)).tolist(), "model_fingerprint": "clip",
                }
            )  # fmt: skip
            for kind, note in (("born", "found in 2 episodes"), ("grown", f"now {count} images")):
                events.append(
                    {
                        "event_id": len(events), "registry_version": 1 + (kind == "grown"), "at": AT,
                        "character_id": name, "kind": kind, "other_id": None, "member_count": count, "note": note,
                    }
                )  # fmt: skip
        decisions = [
            {
                "decision_id": index + 1, "at": AT, "by": "anna", "kind": "name", "character_id": self.ids[index],
                "meaning": f"{self.ids[index]} is called {name!r}", "status": "holds", "reason": None,
            }
            for index, name in self.names.items()
        ]  # fmt: skip
        if len(self.ids) > 3:
            merged = {"kind": "merge", "character_id": self.ids[0], "status": "holds", "reason": None}
            meaning = f"{self.ids[-1]} merged into {self.ids[0]}"
            decisions.append({"decision_id": 99, "at": AT, "by": "anna", "meaning": meaning, **merged})
        registry = Registry(
            characters=CHARACTERS.from_rows(rows), members=MEMBERS.empty(), events=EVENTS.from_rows(events),
            decisions=DECISIONS.from_rows(decisions), version=2,
        )  # fmt: skip
        RegistryStore(self.layout.registry).save(registry)

    def write_profile(self, name: str) -> None:
        design = self.designs[name]
        colours = {"body_colour": design.body_colour, "eyes": design.eyes, "top": design.top}
        attributes = [
            AttributeReading(
                attribute=key, title=key.replace("_", " "), kind="identity", value=str(value).replace("_", " "),
                confidence=0.9, image_share=0.8, distribution={str(value): 0.9},
            )
            for key, value in colours.items()
        ]  # fmt: skip
        profile = CharacterProfile(
            character_id=name, series=self.series, image_count=60, read_image_count=24, screen_time_frames=1234,
            episodes=(
                EpisodePresence(episode="s01e01", image_count=30, screen_time_frames=600),
                EpisodePresence(episode="s01e03", image_count=30, screen_time_frames=634),
            ),
            attributes=tuple(attributes),
            palette=(
                PaletteColor(hex="#d94f3d", name="red", share=0.6),
                PaletteColor(hex="#3d2b28", name="dark brown", share=0.25),
                PaletteColor(hex="#f4efe6", name="white", share=0.15),
            ),
            sizes=SizeStatistics(
                width_px=(80, 40, 160), height_px=(90, 50, 180), frame_height_share=(0.42, 0.2, 0.8),
                aspect_ratio=(0.9, 0.7, 1.2), cut_off_share=0.1,
            ),
            co_appearances=(CoAppearance(character_id=self.ids[-1], screen_time_frames=200, share=0.16),),
            exemplars=(Exemplar(instance_id=self.exemplar_ids(0)[0], cutout="x"),),
            notes=(), vocabulary="creatures", vocabulary_fingerprint="v", model_fingerprint="clip", min_confidence=0.5,
        )  # fmt: skip
        write_text(self.layout.ai_analysis(name) / "profile.json", profile.model_dump_json())

    def write_dataset(self, name: str) -> None:
        trigger, rows = self.trigger(name), []
        for index in range(self.image_count):
            path = self.layout.training_data(name) / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.picture(name, self.side_px, ground=True).save(str(path))
            caption = f"{trigger}, happy, arms up" if index % 2 else f"{trigger}, from the side, in a forest, smiling"
            caption += self.caption_end
            rows.append(
                {
                    "character_id": name, "instance_id": f"s01e01/{index:06d}/9",
                    "split": "held_out" if index >= self.image_count - 2 else "train", "episode": "s01e01",
                    "shot": index, "image": self.layout.relative(path), "mask": self.layout.relative(path),
                    "caption": caption, "background": "original", "width_px": self.side_px,
                    "height_px": self.side_px, "image_sha256": str(index), "outfit": 0, "view": None,
                    "framing": "whole", "identity_margin": None, "cutout_sha256": str(index),
                }
            )  # fmt: skip
        write_table(DATASET, DATASET.from_rows(rows), self.layout.table("training_dataset", name))
        captions = [
            {
                "character_id": name, "instance_id": "s01e01/000000/9", "trigger": trigger, "tags": ["happy"],
                "scores": [0.9], "sentence": "happy", "caption": f"{trigger}, happy",
            }
        ]  # fmt: skip
        write_table(CAPTIONS, CAPTIONS.from_rows(captions), self.layout.table("captions", name))

    def trigger(self, name: str) -> str:
        number = self.ids.index(name)
        return f"ykai{'bdfgklmnprtvz'[number % 13]}oru{number:03d}"

    def write_evaluation(self, name: str) -> EvaluationRecord:
        """Write checkpoints, training record, test pictures and record, with plausible numbers."""
        quality = float(self.rng.uniform(0.5, 1.0))
        folder = self.layout.lora_tests(name)
        checkpoint = self.layout.lora(name) / f"{name}-step002000.safetensors"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        header = {"modelspec.architecture": "stable-diffusion-v1/lora", "ss_steps": "2000", "ss_network_dim": "32"}
        write_safetensors(checkpoint, header, name.encode())
        steps = np.arange(1, 2001)
        losses = 0.09 + 0.11 * np.exp(-steps / 300) + self.rng.normal(0, 0.02, 2000)
        write_json(
            self.layout.lora(name) / f"{name}-training.json",
            {
                "base_model": "stable-diffusion-v1-5", "losses": losses.round(5).tolist(),
                "validation_losses": [[step, 0.1 + 0.1 * float(np.exp(-step / 400))] for step in range(0, 2001, 250)],
                "train_count": self.image_count - 2, "held_out_count": 2, "seconds": 1480.0, "images_per_second": 2.7,
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
                            prompt=prompt.replace("{trigger}", self.trigger(name)),
                            **({} if prompt_index == 2 else judged),
                        )
                    )  # fmt: skip
        rows = [self._checkpoint(name, step, quality) for step in shown]
        record = EvaluationRecord(
            series=self.series, character_id=name, trigger=self.trigger(name), chosen_step=2000,
            chosen_checkpoint=self.layout.relative(checkpoint),
            reason="step 2000 has the highest score (1.012): likeness 0.81 (0 = base model, 1 = real pictures), "
            "97% of its pictures recognised as this character; next is step 500 (0.741), which loses most in likeness.",
            notes=["Only 4 held-out image(s): the measures are rough."], fingerprint="f", base_model="sd15",
            base_fingerprint="b", embedding_fingerprint="clip", is_cut_out=True, reference="held_out",
            reference_count=2, training_count=self.image_count - 2, characters_compared=self.character_count,
            real_to_real=Measure(mean=0.91, low=0.89, high=0.93), real_diversity=0.11, memorising_yardstick=0.97,
            prompts=prompts, seeds=[0, 1], inference_steps=25, guidance_scale=7.0, side_px=self.side_px,
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
            other = sample_design(self.rng)
            image = Image.new("RGB", (self.side_px, self.side_px), GROUNDS[0])
            creature = draw_creature(other, sample_pose(self.rng), self.side_px)
            image.paste(creature, (0, 0), creature)
            return image.filter(ImageFilter.GaussianBlur(self.side_px / 60))
        image = self.picture(name, self.side_px, ground=True)
        return image.filter(ImageFilter.GaussianBlur(self.side_px / (90 if step == 500 else 300)))

    def _checkpoint(self, name: str, step: int, quality: float) -> CheckpointRecord:
        checkpoint = self.layout.lora(name) / f"{name}-step{step:06d}.safetensors"
        covered = {0: 0.0, 500: 0.6 * quality, 2000: quality}[step]
        resemblance = 0.55 + covered * 0.36

        def around(mean: float, half: float = 0.02) -> Measure:
            return Measure(mean=mean, low=max(0.0, mean - half), high=min(1.0, mean + half))

        return CheckpointRecord(
            step=step,
            checkpoint=self.layout.relative(checkpoint) if step else None,
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
        judged = [name for name in self.ids if (self.layout.lora_tests(name) / "evaluation.json").exists()]
        rows = []
        for lora in judged:
            for character in judged:
                is_own = lora == character and (len(judged) < 3 or lora != judged[-1])
                value = float(self.rng.normal(0.78 if is_own else 0.58, 0.025))
                rows.append(
                    {
                        "lora_character_id": lora, "character_id": character, "step": 2000, "image_count": 4,
                        "resemblance": value, "resemblance_low": value - 0.02, "resemblance_high": value + 0.02,
                        "covered_share": (value - 0.55) / 0.36, "recognised_share": 0.9 if is_own else 0.02,
                    }
                )  # fmt: skip
        if rows:
            write_table(LORA_COMPARISONS, LORA_COMPARISONS.from_rows(rows), self.layout.table("lora_comparison"))

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
            row("other", f"LoRA of {self.ids[-1]}", base, character_id=self.ids[-1], prompt_following=None),
            row("this", "this LoRA, step 2,000", chosen, character_id=name),
        ]

    def times(self) -> dict[str, StageTime]:
        """Return times as Dagster would tell them."""
        on_gpu = {"character_layers": 3_600.0 * 9, "embeddings": 2_400.0, "lora_model": 3_600.0 * 31}
        rest = {"frames": 5_200.0, "background_layers": 7_000.0, "clusters": 420.0, "lora_evaluation": 900.0}
        return {name: StageTime(seconds, on_gpu.get(name, 0.0), 3, AT) for name, seconds in (on_gpu | rest).items()}


def main(folder: str, character_count: str = "6") -> None:
    """Write a sample series and its gallery."""
    from yokai_assets.gallery import build_gallery, load_gallery_data, write_pipeline_results

    sample = SampleSeries(
        Path(folder),
        int(character_count),
        side_px=256,
        exemplar_count=8,
        image_count=40,
        names={0: "Momo", 2: "Tin-Kan"},
    )
    layout = sample.write()
    data = load_gallery_data(layout, times=sample.times())
    write_pipeline_results(layout, data)
    print(build_gallery(layout, data))


if __name__ == "__main__":
    main(*sys.argv[1:])
