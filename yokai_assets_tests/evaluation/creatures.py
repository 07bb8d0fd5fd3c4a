"""Creatures of the demo as characters of a small cast: datasets on disk, registry, LoRAs on the bundled base.

Real networks and real training; what differs between LoRAs is what they are trained on and for how long.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.demo.creature_drawing import draw_creature
from yokai_assets.demo.creature_traits import CreatureDesign, CreaturePose, describe, sample_design, sample_pose
from yokai_assets.embedding.model import open_image_text_model
from yokai_assets.evaluation import EvaluationResult, evaluate_character
from yokai_assets.evaluation.subjects import read_real_images
from yokai_assets.segmentation.matte import open_matte
from yokai_assets.settings import Settings, load_settings
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import CHARACTERS, DATASET, EMBEDDINGS, MEMBERS
from yokai_assets.training.base_model import BaseModel, open_base_model
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.images import items_of
from yokai_assets.training.trainer import train_lora

HERO = "cluster_000"
TRIGGER = "ykaiqarigoma"
SIDE_PX = 64
_GROUNDS = ((255, 255, 255), (196, 242, 212), (222, 208, 250), (128, 128, 128))


@dataclass
class Cast:
    """Four creatures; the first, the hero, has a LoRA."""

    root: Path
    layout: Layout = field(init=False)
    values: dict[str, Any] = field(init=False)
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.layout = Layout(UPath(self.root / "data"), "cast")
        evaluation = {
            "prompts": ["{trigger}", "{trigger}, on a white background", "{trigger}, in a meadow"],
            "images_per_prompt": 4, "inference_steps": 10, "guidance_scale": 3.0, "weights": [],
        }  # fmt: skip
        self.values = {
            "profile": "demo", "series": "cast", "data_root": str(self.root / "data"), "device": "cpu",
            "evaluation": evaluation,
        }  # fmt: skip
        self.settings = load_settings(overrides=self.values)
        rng = np.random.default_rng(21)
        self.designs = {f"cluster_{number:03d}": sample_design(rng) for number in range(4)}

    @property
    def base(self) -> BaseModel:
        """The bundled base model."""
        return _base()

    @cached_property
    def model(self) -> Any:
        """The bundled image-text model."""
        return open_image_text_model(self.settings.embedding, "cpu")

    def dataset(
        self,
        character_id: str,
        train_count: int,
        held_out_count: int,
        seed: int,
        poses: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> pl.DataFrame:
        """Draw a character's images to disk and return their rows; `poses` fixes parts of the pose by split."""
        rng = np.random.default_rng([seed, int(character_id[-3:])])
        folder = self.layout.training_data(character_id)
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for number in range(train_count + held_out_count):
            split = "train" if number < train_count else "held_out"
            pose = replace(sample_pose(rng), **(poses or {}).get(split, {}))
            image, mask, caption = _drawn(self.designs[character_id], pose, rng)
            name = f"s{seed}_{number:03d}"
            image.save(str(folder / f"{name}.png"))
            mask.save(str(folder / f"{name}_mask.png"))
            rows.append(
                {
                    "character_id": character_id,
                    "instance_id": f"e{seed}/{number:06d}/0",
                    "split": split,
                    "episode": f"e{seed}",
                    "shot": number,
                    "image": self.layout.relative(folder / f"{name}.png"),
                    "mask": self.layout.relative(folder / f"{name}_mask.png"),
                    "caption": caption,
                    "background": "plain",
                    "width_px": SIDE_PX,
                    "height_px": SIDE_PX,
                    "image_sha256": name,
                    **{"outfit": 0, "view": None, "framing": "whole", "identity_margin": None, "cutout_sha256": ""},
                }
            )
        return DATASET.from_rows(rows)

    def train(self, dataset: pl.DataFrame, steps: int, **options: Any) -> None:
        """Train the hero's LoRA."""
        values = {
            **self.settings.training.model_dump(include=self.settings.training.model_fields_set),
            "max_train_steps": steps, "save_every_n_steps": steps, "lr_warmup_steps": 0, "prior_preservation": 0.0,
            **options,
        }  # fmt: skip
        training = type(self.settings.training).model_validate(values)
        items = items_of(dataset, dataset["character_id"][0], self.layout)
        files = TrainingFiles.of_character(self.layout, HERO)
        train_lora(items, files, training, "cpu", 0, header={}, base=self.base)

    def hand_over(self, character_id: str) -> None:
        """Give the hero's LoRA to another character, as its own."""
        folder = self.layout.lora(character_id)
        shutil.copytree(str(self.layout.lora(HERO)), str(folder))
        (folder / f"{HERO}-training.json").rename(folder / f"{character_id}-training.json")

    def evaluate(self, dataset: pl.DataFrame) -> EvaluationResult:
        """Judge the LoRA of the character that the rows of a dataset are of."""
        characters, embeddings = self._registry
        return evaluate_character(
            dataset["character_id"][0], dataset, characters, embeddings, MEMBERS.empty(), TRIGGER,
            self.layout, self.settings, "cpu",
            base=self.base, model=self.model, matte=open_matte(self.settings.segmentation, "cpu"),
        )  # fmt: skip

    @cached_property
    def _registry(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        characters, embeddings = [], []
        for character_id in self.designs:
            rows = self.dataset(character_id, 6, 0, seed=9)
            grey = self.settings.embedding.neutral_grey
            real = read_real_images(rows, self.layout, self.model, grey, is_cut_out=True)
            names = [f"{character_id}/{number}" for number in range(len(real.vectors))]
            centroid = real.vectors.mean(axis=0)
            characters.append(
                {
                    "character_id": character_id,
                    "state": "active",
                    "member_count": 40,
                    "episode_count": 1,
                    "first_version": 1,
                    "last_version": 1,
                    "exemplars": names,
                    "centroid": (centroid / np.linalg.norm(centroid)).tolist(),
                    "model_fingerprint": self.model.fingerprint,
                }
            )
            embeddings += [
                {
                    "instance_id": name,
                    "episode": "e9",
                    "cutout_sha256": name,
                    "model_fingerprint": self.model.fingerprint,
                    "vector": vector.tolist(),
                }
                for name, vector in zip(names, real.vectors, strict=True)
            ]
        return CHARACTERS.from_rows(characters), EMBEDDINGS.from_rows(embeddings)


@cache
def _base() -> BaseModel:
    return open_base_model("demo", "cpu")


def _drawn(
    design: CreatureDesign, pose: CreaturePose, rng: np.random.Generator
) -> tuple[Image.Image, Image.Image, str]:
    """Draw a creature that fills the picture, on a plain ground: picture, mask, caption."""
    creature = draw_creature(design, pose, 3 * SIDE_PX, supersample=2)
    creature = creature.crop(creature.getbbox())
    side = round(max(creature.size) * 1.2)
    place = ((side - creature.width) // 2, (side - creature.height) // 2)
    image = Image.new("RGB", (side, side), _GROUNDS[int(rng.integers(len(_GROUNDS)))])
    image.paste(creature, place, creature)
    mask = Image.new("L", (side, side), 0)
    mask.paste(creature.getchannel("A"), place)
    expression = describe(design, pose).split(", ")[-1]
    size = (SIDE_PX, SIDE_PX)
    return image.resize(size), mask.resize(size), f"{TRIGGER}, {expression}"
