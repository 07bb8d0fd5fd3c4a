"""A tiny series made on the fly, for tests of what comes after clustering: frames, cut-outs, tables, vectors.

Real files and tables of the real form; only the image-text model is a fake, whose vectors are sums of words.
"""

import hashlib
import zlib
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from PIL import Image, ImageDraw
from upath import UPath

from yokai_assets.storage.layout import Layout
from yokai_assets.tables import CAPTIONS, EMBEDDINGS, FRAMES, INSTANCES, MEMBERS

DIMENSION = 256
FRAME_SIZE = (96, 64)
HERO = "cluster_000"
OTHER = "cluster_001"


class WordModel:
    """An image-text model whose vector of a text is the normalised sum of its words' fixed random vectors."""

    fingerprint = "f" * 64
    dimension = DIMENSION
    logit_scale = 40.0

    def __init__(self) -> None:
        self.texts_embedded = 0

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return unit vectors, f32 [N, D]."""
        self.texts_embedded += len(texts)
        return np.stack(
            [unit(np.sum([_word_vector(word) for word in text.replace(",", " ").split()], axis=0)) for text in texts]
        )

    def embed_image(self, words: str, noise: float = 0.0, seed: int = 0) -> np.ndarray:
        """Return the vector of an image that shows what the words say."""
        vector = self.embed_texts([words])[0]
        return unit(vector + noise * np.random.default_rng(seed).normal(size=DIMENSION) / np.sqrt(DIMENSION))


def _word_vector(word: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIMENSION) / np.sqrt(DIMENSION)


def pixels_of(instance_id: str) -> str:
    """Return what stands for the sha256 of an instance's pixels."""
    return hashlib.sha256(instance_id.encode()).hexdigest()


def unit(vector: np.ndarray) -> np.ndarray:
    """Return the vector at length 1, f32."""
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@dataclass
class SmallSeries:
    """Frames and instances that grow by `show`; `tables()` gives them in the real form."""

    root: UPath
    layout: Layout = field(init=False)
    frames_source: UPath = field(init=False)
    frames: list[dict] = field(default_factory=list)
    instances: list[dict] = field(default_factory=list)
    members: list[dict] = field(default_factory=list)
    embeddings: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = Layout(self.root / "data", "tiny")
        self.frames_source = self.root / "frames"

    def frame(self, episode: str, shot: int) -> tuple[str, Image.Image]:
        """Add a frame with a green ground; returns its id and picture (write it back with `save`)."""
        index = sum(f["episode"] == episode for f in self.frames)
        frame_id = f"{episode}/{index:06d}"
        source = f"{episode}/{index:06d}.png"
        values = {"frame_id": frame_id, "episode": episode, "frame_index": index, "source": source, "shot": shot}
        blank = dict.fromkeys(FRAMES.schema)
        size = {"width_px": FRAME_SIZE[0], "height_px": FRAME_SIZE[1]}
        self.frames.append({**blank, **values, **size, "status": "ok", "representative": frame_id})
        return frame_id, Image.new("RGB", FRAME_SIZE, (40, 140, 60))

    def show(
        self,
        episode: str,
        shot: int,
        vectors: dict[str, np.ndarray],
        *,
        boxes: dict[str, tuple[int, int, int, int]] | None = None,
        weight: int = 1,
        **measures: float,
    ) -> str:
        """Add a frame that shows characters as discs (hero red, other blue); returns its id."""
        frame_id, picture = self.frame(episode, shot)
        draw = ImageDraw.Draw(picture)
        for number, (character_id, vector) in enumerate(vectors.items()):
            box = (boxes or {}).get(character_id, (10 + 46 * number, 12, 46 + 46 * number, 52))
            color = (210, 30, 30) if character_id == HERO else (30, 30, 210)
            draw.ellipse((box[0], box[1], box[2] - 1, box[3] - 1), fill=color)
            self._instance(frame_id, number, shot, box, color, character_id, vector, weight, measures)
        path = self.frames_source / f"{frame_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(str(path))
        return frame_id

    def _instance(
        self,
        frame_id: str,
        number: int,
        shot: int,
        box: tuple[int, int, int, int],
        color: tuple[int, int, int],
        character_id: str,
        vector: np.ndarray,
        weight: int,
        measures: dict[str, float],
    ) -> None:
        instance_id = f"{frame_id}/{number}"
        episode, index = frame_id.split("/")
        cutout = Image.new("RGBA", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(cutout).ellipse((0, 0, cutout.width - 1, cutout.height - 1), fill=(*color, 255))
        path = self.layout.character_layers(episode) / f"{index}_{number}.webp"
        path.parent.mkdir(parents=True, exist_ok=True)
        cutout.save(str(path), lossless=True)
        values = {
            **{"instance_id": instance_id, "frame_id": frame_id, "episode": episode, "frame_index": int(index)},
            **{"instance_index": number, "shot": shot, "x0": box[0], "y0": box[1], "x1": box[2], "y1": box[3]},
            **{"frame_width_px": FRAME_SIZE[0], "frame_height_px": FRAME_SIZE[1], "area_share": 0.2},
            **{
                "presence": 1.0,
                "edge_contact_share": 0.0,
                "lobe_count": 1,
                "sharpness": 100.0,
                "luma_mean": 90.0,
                "weight": weight,
            },
            **{"cutout": self.layout.relative(path), "cutout_sha256": pixels_of(instance_id), "frame_sha256": frame_id},
            **{"matte_fingerprint": "m"},
        }
        self.instances.append({**values, **measures})
        self.members.append(
            {
                **{"character_id": character_id, "instance_id": instance_id, "episode": episode},
                **{"probability": 1.0, "centroid_cosine": 0.9},
            }
        )
        self.embeddings.append(
            {
                **{"instance_id": instance_id, "episode": episode, "cutout_sha256": pixels_of(instance_id)},
                **{"model_fingerprint": WordModel.fingerprint, "vector": vector.tolist()},
            }
        )

    def tables(self) -> "Tables":
        """Return the tables as they are now."""
        vector = pl.Array(pl.Float32, DIMENSION)
        schema = {**EMBEDDINGS.schema, "vector": vector}
        return Tables(
            frames=FRAMES.from_rows(self.frames),
            instances=INSTANCES.from_rows(self.instances),
            members=MEMBERS.from_rows(self.members),
            embeddings=EMBEDDINGS.conform(pl.DataFrame(self.embeddings, schema=schema, orient="row")),
        )

    def captions(self, trigger: str = "ykaitest") -> pl.DataFrame:
        """Return a plain caption for every member."""
        return CAPTIONS.from_rows(
            {
                **{"character_id": m["character_id"], "instance_id": m["instance_id"], "trigger": trigger},
                **{"tags": ["smile"], "scores": [0.9], "sentence": "a smile", "caption": f"{trigger}, smile"},
            }
            for m in self.members
        )


@dataclass(frozen=True)
class Tables:
    """The series' tables."""

    frames: pl.DataFrame
    instances: pl.DataFrame
    members: pl.DataFrame
    embeddings: pl.DataFrame


def scattered(seed: int, spread: float = 0.5) -> np.ndarray:
    """Return one of many vectors around a common direction."""
    rng = np.random.default_rng(seed)
    return unit(_word_vector("common") + spread * rng.normal(size=DIMENSION) / np.sqrt(DIMENSION))
