"""A small world for evaluation: drawn characters, an encoder that sees colours and shapes, a "diffusion" model.

A checkpoint file says in its header what it learnt; the pipeline draws accordingly. Everything else is the
production code on real files.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageDraw
from upath import UPath

from yokai_assets.settings import Settings
from yokai_assets.settings.model import EvaluationSettings
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.storage.files import write_json
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import CHARACTERS, DATASET, EMBEDDINGS, MEMBERS
from yokai_assets.training.files import TrainingFiles

SIDE_PX = 48
FINGERPRINT = "colour-and-shape"
LOOKS = {"cluster_000": ((210, 40, 40), "circle"), "cluster_001": ((40, 60, 210), "square")}
BACKGROUNDS = [(225, 222, 215), (205, 215, 205), (215, 208, 222), (198, 204, 214)]


def draw_character(character_id: str, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Draw one picture of a character and its mask."""
    colour, shape = LOOKS[character_id]
    tinted = tuple(int(np.clip(value + rng.integers(-18, 19), 0, 255)) for value in colour)
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), BACKGROUNDS[rng.integers(len(BACKGROUNDS))])
    mask = Image.new("L", image.size, 0)
    radius = int(rng.integers(12, 17))
    x, y = (int(v) for v in rng.integers(radius + 2, SIDE_PX - radius - 2, 2))
    box = (x - radius, y - radius, x + radius, y + radius)
    for canvas, fill in ((image, tinted), (mask, 255)):
        draw = ImageDraw.Draw(canvas)
        draw.ellipse(box, fill=fill) if shape == "circle" else draw.rectangle(box, fill=fill)
    marks = ImageDraw.Draw(image)
    for _ in range(4):
        spot_x, spot_y = (int(v) for v in rng.integers(-8, 9, 2))
        spot = (x + spot_x - 3, y + spot_y - 3, x + spot_x + 3, y + spot_y + 3)
        marks.ellipse(spot, fill=(240, int(rng.integers(90, 255)), 60))
    return image, mask


class ColourEncoder:
    """Vectors of a 12 x 12 thumbnail around grey: near pictures look alike."""

    fingerprint = FINGERPRINT

    def embed_images(self, images: list[Image.Image]) -> np.ndarray:
        small = [np.asarray(i.convert("RGB").resize((12, 12), Image.Resampling.BOX), np.float32) for i in images]
        vectors = np.stack(small).reshape(len(images), -1) - 128.0
        return _unit(vectors + 1e-3)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
        return _unit(np.stack([np.random.default_rng(seed).normal(size=432) for seed in seeds]).astype(np.float32))


class SaturationMatte:
    """Takes saturated colours for character: backgrounds of this world are pale."""

    def raw(self, images: list[Image.Image]) -> list[np.ndarray]:
        return [(np.asarray(i.convert("HSV"))[..., 1] > 90).astype(np.float32) for i in images]


class DDIMScheduler:
    """Named as that of diffusers."""


@dataclass
class FakePipeline:
    """Draws what its LoRA learnt; without one, noise."""

    kind: str
    world: "World"
    spoilt_share: float = 0.0
    scheduler: Any = field(default_factory=DDIMScheduler)

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def __call__(self, *, prompt: list[str], generator: list[Any], height: int, width: int, **_: Any) -> Any:
        pictures = [self._draw(text, source.initial_seed()) for text, source in zip(prompt, generator, strict=True)]
        self.world.calls.append(list(zip(prompt, (g.initial_seed() for g in generator), strict=True)))
        resized = [np.asarray(p.resize((width, height)), np.float32) / 255 for p in pictures]
        images = np.stack(resized)
        if self.kind == "not a number":
            images[0] = np.nan
        return SimpleNamespace(images=images)

    def _draw(self, prompt: str, seed: int) -> Image.Image:
        rng = np.random.default_rng([seed, len(prompt)])
        if self.kind == "black":
            return Image.new("RGB", (SIDE_PX, SIDE_PX))
        if self.kind == "copies":
            return self.world.training_pictures[0]
        if self.kind in LOOKS:
            picture = draw_character(self.kind, rng)[0]
            noise = Image.fromarray(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8))
            return Image.blend(picture, noise, self.spoilt_share)
        return Image.fromarray(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8).astype(np.uint8))


class FakeBase:
    """A base model that reads from a LoRA's header what to draw."""

    fingerprint = "base"
    public_name = "fake"

    def __init__(self, world: "World") -> None:
        self.world = world

    def build_pipeline(self, lora_path: Path | None = None, weight: float = 1.0) -> FakePipeline:
        if lora_path is None:
            return FakePipeline("noise", self.world)
        data = Path(lora_path).read_bytes()
        try:
            length = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + length])["__metadata__"]
            kind, best_weight = metadata["learnt"], float(metadata.get("best_weight", 1.0))
        except (ValueError, KeyError) as error:
            raise RuntimeError(f"{lora_path}: this LoRA does not load ({error})") from error
        return FakePipeline(kind, self.world, min(1.0, 2 * abs(weight - best_weight)))


class World:
    """Two characters, the dataset of the first on disk, and checkpoints on demand."""

    def __init__(self, root: Path, train_count: int = 12, held_out_count: int = 4) -> None:
        self.settings = Settings.model_validate(
            {
                "data_root": str(root),
                "series": "test",
                "training": TrainingSettings.model_validate({"resolution_px": SIDE_PX, "base_model": "fake"}),
                "evaluation": EvaluationSettings.model_validate(
                    {
                        "prompts": ("{trigger}", "{trigger}, on a hill"),
                        "images_per_prompt": 4,
                        "bootstrap_samples": 200,
                        "weights": (),
                    }
                ),
            }
        )
        self.layout = Layout(UPath(root), "test")
        self.calls: list[list[tuple[str, int]]] = []
        self.losses: dict[int, float] = {}
        self.training_pictures: list[Image.Image] = []
        self.dataset = self._write_dataset(train_count, held_out_count)
        self.characters, self.embeddings, self.members = self._registry()

    def checkpoint(
        self,
        step: int,
        learnt: str,
        weights: bytes | None = None,
        *,
        best_weight: float = 1.0,
        loss: float = 0.5,
        trained_on: Sequence[str] = (),
    ) -> UPath:
        """Write a checkpoint of a finished training that draws as `learnt` says, and best at `best_weight`.

        That is a character id, `noise`, `copies`, `black` or `not a number`.
        """
        path = self.layout.lora("cluster_000") / f"cluster_000-step{step:06d}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"learnt": learnt, "ss_steps": str(step), "best_weight": str(best_weight)}
        header["yokai_training_images"] = json.dumps({name: {} for name in trained_on})
        write_safetensors(path, header, weights or step.to_bytes(8, "little"))
        self.losses[step] = loss
        write_record(self.layout, "cluster_000", self.losses)
        return path

    def set_evaluation(self, **changes: Any) -> None:
        """Change settings of the evaluation."""
        evaluation = self.settings.evaluation.model_copy(update=changes)
        self.settings = self.settings.model_copy(update={"evaluation": evaluation})

    def arguments(self) -> tuple[Any, ...]:
        """Return the positional arguments of `evaluate_character`."""
        return (
            "cluster_000", self.dataset, self.characters, self.embeddings, self.members, "ykaitrigger",
            self.layout, self.settings, "cpu",
        )  # fmt: skip

    def parts(self) -> dict[str, Any]:
        """Return the keyword arguments of `evaluate_character`."""
        return {"base": FakeBase(self), "model": ColourEncoder(), "matte": SaturationMatte()}

    def _write_dataset(self, train_count: int, held_out_count: int) -> pl.DataFrame:
        rng, rows = np.random.default_rng(5), []
        folder = self.layout.training_data("cluster_000")
        for split, count in (("train", train_count), ("held_out", held_out_count)):
            for number in range(count):
                image, mask = draw_character("cluster_000", rng)
                name = f"{split}_{number:03d}"
                folder.mkdir(parents=True, exist_ok=True)
                image.save(str(folder / f"{name}.png"))
                mask.save(str(folder / f"{name}_mask.png"))
                if split == "train":
                    self.training_pictures.append(image)
                rows.append(
                    {
                        "character_id": "cluster_000",
                        "instance_id": f"e01/{number:06d}/{int(split == 'train')}",
                        "split": split,
                        "episode": "e01",
                        "shot": number,
                        "image": self.layout.relative(folder / f"{name}.png"),
                        "mask": self.layout.relative(folder / f"{name}_mask.png"),
                        "caption": "ykaitrigger, on a hill",
                        "background": "original",
                        "width_px": SIDE_PX,
                        "height_px": SIDE_PX,
                        "image_sha256": name,
                        **{"outfit": 0, "view": None, "framing": "whole", "identity_margin": None, "cutout_sha256": ""},
                    }
                )
        return DATASET.from_rows(rows)

    def _registry(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        from yokai_assets.evaluation.subjects import _on_ground

        rng, encoder = np.random.default_rng(9), ColourEncoder()
        vectors: dict[str, np.ndarray] = {}
        characters = []
        for character_id in LOOKS:
            names = [f"{character_id}/{i}" for i in range(5)]
            pictures = [draw_character(character_id, rng) for _ in names]
            own = encoder.embed_images([_on_ground(image, np.asarray(mask), 128) for image, mask in pictures])
            vectors |= dict(zip(names, own, strict=True))
            centroid = _unit(own.mean(axis=0, keepdims=True))[0]
            characters.append(
                {
                    "character_id": character_id,
                    "state": "active",
                    "member_count": 40,
                    "episode_count": 1,
                    "first_version": 1,
                    "last_version": 1,
                    "exemplars": names,
                    "centroid": centroid.tolist(),
                    "model_fingerprint": FINGERPRINT,
                }
            )
        embeddings = EMBEDDINGS.from_rows(
            {
                "instance_id": name,
                "episode": "e01",
                "cutout_sha256": name,
                "model_fingerprint": FINGERPRINT,
                "vector": vector.tolist(),
            }
            for name, vector in vectors.items()
        )
        return CHARACTERS.from_rows(characters), embeddings, MEMBERS.empty()


def write_record(layout: Layout, character_id: str, losses: dict[int, float]) -> None:
    """Write of a training record what names checkpoints, and their losses on held-out images."""
    files = TrainingFiles.of_character(layout, character_id)
    named = [{"step": step, "file": files.checkpoint(step).name} for step in sorted(losses)]
    write_json(files.record, {"checkpoints": named, "validation_losses": sorted(losses.items())})


def write_safetensors(path: UPath | Path, metadata: dict[str, str], weights: bytes) -> None:
    """Write a safetensors file of one u8 tensor."""
    entries = {
        "__metadata__": metadata,
        "w": {"dtype": "U8", "shape": [len(weights)], "data_offsets": [0, len(weights)]},
    }
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + weights)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def broken_png() -> bytes:
    """Return a PNG whose second data chunk has no valid name: Pillow opens it, and fails with a `SyntaxError`."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    second = data.index(b"IDAT", data.index(b"IDAT") + 4)
    return data[:second] + b"\0\0\0\0" + data[second + 4 :]
