"""A made-up series on disk, as the stages would leave it: for tests, and for looking at the gallery.

`python -m yokai_assets_tests.gallery.sample FOLDER [CHARACTERS]` writes one and builds its gallery.
"""

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
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
from yokai_assets.gallery import StageTime
from yokai_assets.publishing import publish_lora
from yokai_assets.registry import Registry, RegistryStore
from yokai_assets.storage.files import write_text
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
    MEMBERS,
)
from yokai_assets_tests.gallery.sample_evaluation import GROUNDS, SampleEvaluation

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


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
        evaluation = SampleEvaluation(self)
        self.write_episodes()
        self.write_registry()
        for index, name in enumerate(self.ids):
            if self.state(index) != "active":
                continue
            last = self.character_count - 3 - index
            self.write_profile(name)
            self.write_dataset(name)
            if last >= 1 or self.character_count <= 3:
                record = evaluation.write_record(name)
                publish_lora(name, record, self.layout, at=AT)
        evaluation.write_comparison()
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
