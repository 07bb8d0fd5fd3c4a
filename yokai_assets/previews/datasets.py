"""What a training set shows of itself: its images with their captions, what was left out and why, tags, coverage.

Picking only; drawing is `sheets` and `charts`. A picture that cannot be made is `None`, never an error.
"""

import contextlib
from collections import Counter
from collections.abc import Mapping

import numpy as np
import polars as pl
from PIL import Image

from yokai_assets.frames.decoding import IMAGE_ERRORS, open_image
from yokai_assets.previews.charts import bar_chart, line_chart
from yokai_assets.previews.sheets import contact_sheet
from yokai_assets.previews.stages import MAX_TILES, evenly, groups_sheet
from yokai_assets.storage.layout import Layout

_TAGS_SHOWN = 30
_BARS_SHOWN = 30
_PER_REASON = 8


def training_sheet(table: pl.DataFrame, layout: Layout, *, count: int = MAX_TILES) -> Image.Image | None:
    """Show up to `count` images of a training set (DATASET) with their captions, held-out ones first."""
    images: list[Image.Image] = []
    labels: list[str] = []
    for row in evenly(table.sort("split", "image"), count).iter_rows(named=True):
        with contextlib.suppress(*IMAGE_ERRORS), layout.absolute(row["image"]).open("rb") as file:
            picture = open_image(file)
            picture.load()
            images.append(picture)
            labels.append(("held out: " if row["split"] == "held_out" else "") + row["caption"])
    if not images:
        return None
    return contact_sheet(images, columns=6, tile_px=150, labels=labels, label_lines=3)


def rejected_sheet(dropped: Mapping[str, str], instances: pl.DataFrame, layout: Layout) -> Image.Image | None:
    """Show a row of cut-outs for each reason for which images were left out, most frequent first.

    Args:
        dropped: instance_id -> reason.
        instances: INSTANCES that hold them; those it lacks are not shown.
        layout: Where cut-outs lie.
    """
    cutouts = dict(instances.select("instance_id", "cutout").iter_rows())
    groups: dict[str, list[str]] = {}
    for reason, count in Counter(dropped.values()).most_common():
        own = [cutouts[name] for name in sorted(dropped) if dropped[name] == reason and name in cutouts]
        step = max(1, len(own) // _PER_REASON)
        if own:
            groups[f"{reason.replace('_', ' ')} {count:,}"] = own[::step][:_PER_REASON]
    return groups_sheet(groups, layout, per_group=_PER_REASON, label_lines=2) if groups else None


def tag_chart(table: pl.DataFrame, captions: pl.DataFrame) -> Image.Image | None:
    """Draw in which share of the training images each tag is said."""
    is_trained = pl.col("instance_id").is_in(table.filter(split="train")["instance_id"].implode())
    tags = captions.filter(is_trained)["tags"]
    shares = Counter(tag for some in tags for tag in some)
    if not shares:
        return None
    values = {tag: 100 * count / len(tags) for tag, count in shares.most_common(_TAGS_SHOWN)}
    more = f", {len(shares) - _TAGS_SHOWN} more" if len(shares) > _TAGS_SHOWN else ""
    return bar_chart(values, title=f"Tags of {len(tags)} training images{more}", value_label="% of the images")


def coverage_chart(table: pl.DataFrame, instances: pl.DataFrame, members: pl.DataFrame) -> Image.Image | None:
    """Draw of each episode how many images there are, and how many are trained on.

    Args:
        table: DATASET.
        instances: INSTANCES that hold the members.
        members: Rows with `instance_id` of all members.
    """
    own = instances.join(members.select("instance_id"), on="instance_id", how="semi")
    there = dict(own.group_by("episode").len().sort("episode").iter_rows())
    if not there:
        return None
    trained = dict(table.group_by("episode").len().iter_rows())
    counts = [trained.get(episode, 0) for episode in there]
    title = f"{sum(count > 0 for count in counts)} of {len(there)} episodes are trained on"
    if len(there) <= _BARS_SHOWN:
        named = {f"{episode} ({there[episode]:,})": float(trained.get(episode, 0)) for episode in there}
        return bar_chart(named, title=title, value_label="training and held-out images (in brackets: all there are)")
    places = np.arange(len(there))
    series = {"all images": (places, np.array(list(there.values()))), "chosen": (places, np.array(counts))}
    return line_chart(series, title=title, x_label="episode, in order", y_label="images")
