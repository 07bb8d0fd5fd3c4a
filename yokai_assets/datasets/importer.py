"""Taking over what another pipeline made: a tree of `cluster_000/*.png` becomes instances and clusters.

For those who come with segmentation and clustering done. The result stands in the same tables as our own work, so
embedding, registry, captions and training go on from there. Only reading and converting; the caller stores the tables.
"""

import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import FrameError, decode_image, read_bytes, rgb_of
from yokai_assets.frames.fingerprint import fingerprint_luma
from yokai_assets.frames.listing import list_folder
from yokai_assets.progress import Progress, silent
from yokai_assets.segmentation.instances import count_lobes
from yokai_assets.storage.files import path_below, sha256_of_parts, write_bytes
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import CLUSTERS, INSTANCES

IMPORTED_EPISODE = "imported"
_MAX_SIDE_PX = 16_383
"""A WebP, as which cut-outs are kept, has no longer sides."""
_CUT_BITS = 16
_FINGERPRINT = "imported"


class ImportTreeError(ValueError):
    """There is nothing that could be imported; the message names the folder, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Tables of an imported tree.

    Attributes:
        instances: INSTANCES, all of episode `imported`.
        clusters: CLUSTERS; labels are the numbers in the folders' names, or 0, 1, ... in order of names where a
            folder has none.
        folders: Label -> folder name.
        problems: Files left out, each with its reason.
    """

    instances: pl.DataFrame
    clusters: pl.DataFrame
    folders: dict[int, str]
    problems: tuple[str, ...]


def import_cluster_tree(folder: UPath, layout: Layout, *, progress: Progress = silent) -> ImportResult:
    """Read a tree of one folder per character and copy its images in as cut-outs.

    Each image is one instance whose box is the whole image. Opaque images count as all character. Neighbours by
    name whose difference hashes are alike form one shot, so that held-out images are not trained on in disguise;
    how sharp an image is, is measured; ids come from pixels, so that images which come or go move no other's; what
    only whole frames tell (place in the frame, edge contact) is not known and set as if nothing were cut off.

    Args:
        folder: Holds one folder per character; files directly in it are ignored.
        layout: Where cut-outs go: the layers of episode `imported`.
        progress: Told after each image.

    Raises:
        ImportTreeError: No folder with an image.
    """
    labels = _labels(folder)
    files: list[tuple[int, UPath]] = []
    problems: list[str] = []
    for label, place in labels.items():
        try:
            files += [(label, file) for file in _images(place)]
        except OSError as error:
            problems.append(f"{place}: cannot be listed ({error.strerror or error}). Check its permissions.")
    if not files:
        raise ImportTreeError(
            f"{folder}: no folder in it holds images (.png, .webp, .jpg, ...). "
            "Name the folder that contains `cluster_000`, `cluster_001`, ..."
        )
    rows: list[dict[str, Any]] = []
    clusters: list[dict[str, Any]] = []
    shots = _Shots()
    taken: set[int] = set()
    for index, (label, file) in enumerate(files):
        progress(index + 1, len(files), file.name)
        try:
            cutout = _read(file)
        except FrameError as error:
            problems.append(f"{error.path}: {error.reason}. Replace or remove it.")
            continue
        row = _instance(cutout, taken, shots.number(label, cutout), layout)
        rows.append(row)
        clusters.append(
            {
                "instance_id": row["instance_id"],
                "episode": IMPORTED_EPISODE,
                "cluster_label": label,
                "probability": 1.0,
                "is_rare_group": False,
                "representative": row["instance_id"],
                "is_joined": False,
                "cutout_sha256": row["cutout_sha256"],
            }
        )
    found = {label: place.name for label, place in labels.items()}
    return ImportResult(INSTANCES.from_rows(rows), CLUSTERS.from_rows(clusters), found, tuple(problems))


class _Shots:
    """Numbers shots: a new one with each new folder and each picture unlike the one before."""

    def __init__(self) -> None:
        self._number = -1
        self._label: int | None = None
        self._dhash = 0

    def number(self, label: int, cutout: Image.Image) -> int:
        ground = Image.new("RGB", cutout.size, (128, 128, 128))
        ground.paste(cutout, mask=cutout.getchannel("A"))
        dhash = fingerprint_luma(ground.convert("L")).dhash
        if label != self._label or (dhash ^ self._dhash).bit_count() >= _CUT_BITS:
            self._number += 1
        self._label, self._dhash = label, dhash
        return self._number


def _labels(folder: UPath) -> dict[int, UPath]:
    if not folder.is_dir():
        raise ImportTreeError(f"{folder}: no such folder. Name the folder that contains `cluster_000`, ...")
    places = [path_below(folder, entry.name) for entry in list_folder(folder) if entry.is_folder]
    numbers = [re.search(r"(\d+)$", place.name) for place in places]
    found = [int(number[1]) for number in numbers if number]
    if len(set(found)) < len(places) or any(number >= 2**31 for number in found):
        return dict(enumerate(places))
    return dict(zip(found, places, strict=True))


def _images(place: UPath) -> list[UPath]:
    return [path_below(place, entry.name) for entry in list_folder(place) if entry.is_image]


def _read(file: UPath) -> Image.Image:
    """Read an image as RGBA; an opaque one is character all over.

    Raises:
        FrameError: It is no image that could be a cut-out.
    """
    name = str(file).encode("utf-8", "backslashreplace").decode()
    picture = decode_image(read_bytes(file), name)
    if max(picture.size) > _MAX_SIDE_PX:
        reason = f"is too large ({picture.width}x{picture.height} px, a side has {_MAX_SIDE_PX} at most)"
        raise FrameError(name, reason, "Scale it down.")
    cutout = picture.convert("RGBA") if picture.has_transparency_data else rgb_of(picture).convert("RGBA")
    if cutout.getchannel("A").getextrema()[1] < 128:  # pyright: ignore[reportOperatorIssue, reportIndexIssue]
        raise FrameError(name, "is transparent all over", "Replace it.")
    return cutout


def _index(sha256: str, taken: set[int]) -> int:
    """Return an Int32 that depends on the pixels; equal or colliding pictures get the next free one."""
    index = int(sha256[:8], 16) % (1 << 30)
    while index in taken:
        index += 1
    taken.add(index)
    return index


def _instance(cutout: Image.Image, taken: set[int], shot: int, layout: Layout) -> dict[str, Any]:
    sha256 = sha256_of_parts(cutout.size, cutout.tobytes())
    measures = _measures(cutout)
    index = _index(sha256, taken)
    path = layout.character_layers(IMPORTED_EPISODE) / f"{index:06d}_{sha256[:16]}.webp"
    if not path.exists():
        write_bytes(path, _lossless(cutout))
    frame_id = f"{IMPORTED_EPISODE}/{index:06d}"
    return {
        "instance_id": f"{frame_id}/0",
        "frame_id": frame_id,
        "episode": IMPORTED_EPISODE,
        "frame_index": index,
        "instance_index": 0,
        "shot": shot,
        "x0": 0,
        "y0": 0,
        "x1": cutout.width,
        "y1": cutout.height,
        "frame_width_px": cutout.width,
        "frame_height_px": cutout.height,
        **measures,
        "presence": 1.0,
        "edge_contact_share": 0.0,
        "lobe_count": count_lobes(np.asarray(cutout.getchannel("A")) > 127),
        "weight": 1,
        "cutout": layout.relative(path),
        "cutout_sha256": sha256,
        "frame_sha256": sha256,
        "matte_fingerprint": _FINGERPRINT,
    }


def _measures(cutout: Image.Image) -> dict[str, float]:
    """Measure as segmentation does: variance of the Laplacian and mean luma inside the mask."""
    from scipy.ndimage import laplace

    luma = np.asarray(cutout.convert("L"), np.float32)
    mask = np.asarray(cutout.getchannel("A")) >= 128
    return {
        "area_share": float(mask.mean()),
        "sharpness": float(laplace(luma)[mask].var()),
        "luma_mean": float(luma[mask].mean()),
    }


def _lossless(cutout: Image.Image) -> bytes:
    buffer = io.BytesIO()
    cutout.save(buffer, "WEBP", lossless=True, method=3, exact=True)
    return buffer.getvalue()
