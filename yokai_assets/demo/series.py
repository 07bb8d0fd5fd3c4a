"""Generates the demo series on disk: episodes of frames with the blemishes of real ones, and their truth.

Each episode depends on the seed, the cast and its own number only, so that episodes can be added later. Not
here: what happens in an episode (:mod:`yokai_assets.demo.story`), reading the truth (:mod:`yokai_assets.demo.truth`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageFilter

from yokai_assets.demo.cards import credits_card, faded, title_card
from yokai_assets.demo.compositing import Actor, Composite, compose
from yokai_assets.demo.creatures import design_as_dict
from yokai_assets.demo.scenes import PLACES, Scene, paint_scene
from yokai_assets.demo.story import CastMember, Drawing, choose_cast, plan_episode
from yokai_assets.demo.truth import FRAMES_SCHEMA, INSTANCES_SCHEMA, TRUTH_FILE, TRUTH_FOLDER, Truth, load_truth
from yokai_assets.progress import Progress, silent
from yokai_assets.storage.files import whole_file, whole_folder, write_json

_VERSION = 1
"""Changes when the same parameters give other pixels."""
_SCENE_STREAM, _CARD_STREAM, _NOISE_STREAM, _FAULT_STREAM = 11, 12, 13, 14
_PNG_EVERY = 15
_MIN_INSTANCE_PX = 12
"""Instances whose visible area is smaller than this number of pixels squared are not worth a row."""


class NotADemoSeriesError(RuntimeError):
    """The folder holds something else, which is left alone."""


@dataclass(frozen=True)
class _Parameters:
    seed: int
    characters: int
    rare_characters: int
    frames_per_episode: int
    size_px: tuple[int, int]


def generate_series(
    folder: Path,
    *,
    episodes: int = 6,
    frames_per_episode: int = 60,
    characters: int = 5,
    rare_characters: int = 1,
    seed: int = 0,
    size_px: tuple[int, int] = (384, 216),
    progress: Progress = silent,
) -> Truth:
    """Writes ``episode_001/frame_000001.jpg`` ... and the truth into `folder`; complete episodes stay as they are.

    Args:
        folder: where to; empty, absent, or a series of the same parameters that is to grow or to be completed.
        episodes: number of episodes that there are afterwards, at least.
        frames_per_episode: files per episode, held and broken ones included.
        characters: characters that appear often.
        rare_characters: further ones that visit two early episodes each, for about ten distinct drawings in all.
        seed: of everything.
        size_px: width and height of frames.
        progress: told after every episode.

    Returns:
        The truth of all episodes in the folder.

    Raises:
        NotADemoSeriesError: the folder holds episodes that were not made with these parameters.
        ValueError: a parameter is out of range.
    """
    if episodes < 1 or frames_per_episode < 4 or min(size_px) < 64:
        raise ValueError(
            f"need at least 1 episode, 4 frames and 64 px; "
            f"got {episodes} episodes of {frames_per_episode} frames, {size_px} px"
        )
    parameters = _Parameters(seed, characters, rare_characters, frames_per_episode, size_px)
    cast = choose_cast(seed, characters, rare_characters)
    _claim_folder(folder, parameters, cast)
    for number in range(1, episodes + 1):
        if not _is_complete(folder, number, frames_per_episode):
            _write_episode(folder, number, parameters, cast)
        progress(number, episodes, f"episode {number}")
    return load_truth(folder)


def _claim_folder(folder: Path, parameters: _Parameters, cast: list[CastMember]) -> None:
    """Writes ``truth.json``, or makes sure that it tells of the same series."""
    content = {
        "version": _VERSION,
        "seed": parameters.seed,
        "size_px": list(parameters.size_px),
        "frames_per_episode": parameters.frames_per_episode,
        "characters": [
            {"name": member.name, "is_rare": member.is_rare, "design": design_as_dict(member.design)} for member in cast
        ],
    }
    path = folder / TRUTH_FILE
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != content:
            raise NotADemoSeriesError(
                f"{folder}: holds a demo series of other parameters. Choose another folder, or delete this one."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise NotADemoSeriesError(f"{folder}: is not empty and holds no demo series. Choose an empty folder.")
    write_json(path, content)


def episode_name(number: int) -> str:
    """The folder of an episode, counted from 1."""
    return f"episode_{number:03d}"


def _is_complete(folder: Path, number: int, frames: int) -> bool:
    """The truth table is written last: with it and all frame files there, nothing is missing."""
    name = episode_name(number)
    if not (folder / TRUTH_FOLDER / "frames" / f"{name}.parquet").exists():
        return False
    return len(list((folder / name).glob("frame_*"))) == frames


@lru_cache(maxsize=32)
def _scene(place: str, set_number: int, seed: int, size_px: tuple[int, int]) -> Scene:
    rng = np.random.default_rng([seed, _SCENE_STREAM, PLACES.index(place), set_number])
    return paint_scene(place, rng, size_px)


def render_drawing(
    drawing: Drawing, cast: Sequence[CastMember], number: int, seed: int, size_px: tuple[int, int]
) -> Composite:
    """One drawing of episode `number` as pixels, before compression."""
    if drawing.place is None:
        rng = np.random.default_rng([seed, _CARD_STREAM, number, drawing.shot])
        if drawing.kind == "title":
            return Composite(title_card(rng, size_px, *drawing.text), [], [])
        if drawing.kind == "credits":
            return Composite(credits_card(rng, size_px), [], [])
        return Composite(Image.new("RGB", size_px, (2, 2, 4)), [], [])
    scene = _scene(drawing.place, drawing.set_number, seed, size_px)
    designs = {member.name: member.design for member in cast}
    actors = [
        Actor(designs[one.name], one.pose, one.x, scene.ground_y - one.lift, one.size_px)
        for one in drawing.performances
    ]
    frame = compose(scene, drawing.camera, actors, drawing.has_foreground)
    return Composite(faded(frame.image, drawing.fade), frame.alphas, frame.full_areas_px) if drawing.fade else frame


@lru_cache(maxsize=1)
def _render_cached(
    drawing: Drawing, cast: tuple[CastMember, ...], number: int, seed: int, size_px: tuple[int, int]
) -> Composite:
    """Held frames show the last drawing again."""
    return render_drawing(drawing, cast, number, seed, size_px)


def _encode(picture: Image.Image, rng: np.random.Generator, is_png: bool, is_held: bool) -> bytes:
    """The file's bytes; held frames get the faint noise that a second scan or encoder pass leaves."""
    if is_held:
        pixels = np.asarray(picture, dtype=np.float32) + rng.normal(0, 0.8, (picture.height, picture.width, 1))
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    if is_png:
        picture.save(buffer, "PNG", compress_level=6)
    else:
        picture.save(buffer, "JPEG", quality=int(rng.integers(88, 95)))
    return buffer.getvalue()


def _choose_faults(number: int, kinds_and_holds: list[tuple[str, bool]], seed: int) -> dict[int, str]:
    """Frame index -> fault. Odd episodes have a misnamed file, even ones a truncated and an empty file.

    Broken frames are held ones where there are any, so that hardly any distinct drawing is lost.
    """
    rng = np.random.default_rng([seed, _FAULT_STREAM, number])
    story = [index for index, (kind, _) in enumerate(kinds_and_holds) if kind == "story"]
    held = [index for index in story if kinds_and_holds[index][1]]
    wanted = ["misnamed"] if number % 2 == 1 else ["truncated", "empty"]
    pool = held if len(held) >= len(wanted) else story or list(range(len(kinds_and_holds)))
    chosen = rng.choice(pool, size=min(len(wanted), len(pool)), replace=False)
    return dict(zip((int(index) for index in chosen), wanted, strict=False))


def _frames_of(plan: list[Drawing]) -> Iterator[tuple[int, int, Drawing]]:
    """Frame index, index of the first frame of its hold, drawing."""
    index = 0
    for drawing in plan:
        for offset in range(drawing.hold):
            yield index + offset, index, drawing
        index += drawing.hold


def _broken(data: bytes, fault: str | None) -> bytes:
    if fault == "empty":
        return b""
    return data[: len(data) // 3] if fault == "truncated" else data


def _write_episode(folder: Path, number: int, parameters: _Parameters, cast: list[CastMember]) -> None:
    name, truth_folder = episode_name(number), folder / TRUTH_FOLDER
    plan = plan_episode(cast, number, parameters.frames_per_episode, parameters.seed, parameters.size_px[1])
    schedule = list(_frames_of(plan))
    faults = _choose_faults(
        number, [(drawing.kind, index != first) for index, first, drawing in schedule], parameters.seed
    )
    frame_rows: list[dict] = []
    instance_rows: list[dict] = []
    drawn_rows: list[dict] = []
    with whole_folder(folder / name) as frames_at, whole_folder(truth_folder / "alpha" / name) as alphas_at:
        for index, first, drawing in schedule:
            drawn = _render_cached(drawing, tuple(cast), number, parameters.seed, parameters.size_px)
            if index == first:
                drawn_rows = _instance_rows(drawn, drawing, name, index, alphas_at)
            rng = np.random.default_rng([parameters.seed, _NOISE_STREAM, number, index])
            fault = faults.get(index)
            is_png = fault == "misnamed" or (index % _PNG_EVERY == _PNG_EVERY - 1 and fault is None)
            suffix = "png" if is_png and fault != "misnamed" else "jpg"
            file = f"frame_{index + 1:06d}.{suffix}"
            (frames_at / file).write_bytes(_broken(_encode(drawn.image, rng, is_png, index != first), fault))
            frame_rows.append(_frame_row(name, index, first, file, drawing, fault))
            instance_rows += [_at_frame(row, name, index, index == first) for row in drawn_rows]
        if number % 2 == 1:
            (frames_at / "notes.txt").write_text(f"Scanned from reel {number}.\n", encoding="utf-8")
    for table, rows, schema in (("instances", instance_rows, INSTANCES_SCHEMA), ("frames", frame_rows, FRAMES_SCHEMA)):
        with whole_file(truth_folder / table / f"{name}.parquet") as temporary:
            pl.DataFrame(rows, schema=schema).write_parquet(temporary)


def _frame_id(episode: str, index: int) -> str:
    return f"{episode}/{index:06d}"


def _frame_row(episode: str, index: int, first: int, file: str, drawing: Drawing, fault: str | None) -> dict:
    return {
        "frame_id": _frame_id(episode, index),
        "episode": episode,
        "frame_index": index,
        "file": f"{episode}/{file}",
        "shot": drawing.shot,
        "place": drawing.place,
        "kind": drawing.kind,
        "duplicate_of": None if index == first else _frame_id(episode, first),
        "fault": fault,
    }


def _instance_rows(drawn: Composite, drawing: Drawing, episode: str, index: int, alphas_at: Path) -> list[dict]:
    """Rows of a drawing's instances; writes their alphas."""
    rows = []
    for position, (alpha, whole_px) in enumerate(zip(drawn.alphas, drawn.full_areas_px, strict=True)):
        visible = alpha >= 128
        if visible.sum() < _MIN_INSTANCE_PX**2:
            continue
        y, x = np.nonzero(visible)
        x0, y0, x1, y1 = int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
        file = f"{index:06d}_{position}.png"
        Image.fromarray(alpha[y0:y1, x0:x1]).save(alphas_at / file)
        others = [other for number, other in enumerate(drawn.alphas) if number != position]
        rows.append(
            {
                "position": position,
                "shot": drawing.shot,
                "character": drawing.performances[position].name,
                "x0": x0,
                "y0": y0,
                "x1": x1,
                "y1": y1,
                "area_share": float(visible.mean()),
                "visible_share": min(1.0, float(alpha.sum() / 255 / max(1.0, whole_px))),
                "touches_other": any(bool((_grown(visible) & (other >= 128)).any()) for other in others),
                "alpha": f"alpha/{episode}/{file}",
            }
        )
    return rows


def _grown(mask: np.ndarray) -> np.ndarray:
    """The mask and its neighbouring pixels."""
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(3))) > 0


def _at_frame(row: dict, episode: str, index: int, is_distinct: bool) -> dict:
    frame_id = _frame_id(episode, index)
    rest = {name: value for name, value in row.items() if name != "position"}
    return {
        "truth_id": f"{frame_id}/{row['position']}",
        "frame_id": frame_id,
        "episode": episode,
        "is_distinct": is_distinct,
        **rest,
    }
