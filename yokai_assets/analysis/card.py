"""The summary picture of a profile: exemplars, palette, traits and key facts on one card.

Drawing only; the content is `profile`, the file is `writing`.
"""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from yokai_assets.analysis.profile import AttributeReading, CharacterProfile
from yokai_assets.previews.fonts import fitted, font
from yokai_assets.previews.sheets import GROUND, INK, MUTED_INK, tile

_WIDTH_PX = 960
_PADDING_PX = 28
_TILE_PX = 132
_COLUMNS = 6
_BAR_TRACK = (230, 227, 220)
_BAR = (47, 111, 159)
_LINE_PX = 27
_LEAST_SWATCH_PX = 96


def draw_card(profile: CharacterProfile, exemplars: Sequence[Image.Image]) -> Image.Image:
    """Draw the card.

    Args:
        profile: What to tell.
        exemplars: Its exemplars' cut-outs; may be fewer than the profile names.

    Returns:
        RGB picture, 960 px wide.
    """
    traits = _shown_traits(profile)
    inner = _WIDTH_PX - 2 * _PADDING_PX
    rows = -(-len(exemplars) // _COLUMNS)
    gap = (inner - _COLUMNS * _TILE_PX) // (_COLUMNS - 1)
    picture_height = rows * (_TILE_PX + gap)
    trait_height = (-(-len(traits) // 2)) * _LINE_PX + 14 if traits else 0
    palette_height = 78 if profile.palette else 0
    card = Image.new("RGB", (_WIDTH_PX, 118 + picture_height + palette_height + trait_height + 20), GROUND)
    draw = ImageDraw.Draw(card)
    _draw_head(draw, profile)
    top = 118
    for index, exemplar in enumerate(exemplars):
        left = _PADDING_PX + (index % _COLUMNS) * (_TILE_PX + gap)
        _paste_rounded(card, tile(exemplar, _TILE_PX), (left, top + (index // _COLUMNS) * (_TILE_PX + gap)))
    top += picture_height + 4
    if profile.palette:
        _draw_palette(draw, profile, top, inner)
    _draw_traits(draw, traits, top + palette_height, inner)
    return card


def key_facts(profile: CharacterProfile) -> str:
    """Return one line of numbers: images, screen time, episodes."""
    count = len(profile.episodes)
    span = profile.first_episode if count == 1 else f"{profile.first_episode} – {profile.last_episode}"
    return (
        f"{profile.image_count:,} images  ·  on screen in {profile.screen_time_frames:,} frames  ·  "
        f"{count} episode{'s' if count != 1 else ''} ({span})"
    )


def company(profile: CharacterProfile, most: int = 3) -> str:
    """Return one line: with whom the character is seen, whom it looks like, how many looks it has."""
    seen = ", ".join(f"{c.character_id} ({c.share:.0%})" for c in profile.co_appearances[:most])
    parts = [f"seen with {seen}" if seen else "never seen in one frame with another known character"]
    if profile.similar:
        parts.append(f"most like {profile.similar[0].character_id}")
    if len(profile.outfits) > 1:
        parts.append(f"{len(profile.outfits)} outfits ({', '.join(f'{o.share:.0%}' for o in profile.outfits)})")
    return "  ·  ".join(parts)


def _shown_traits(profile: CharacterProfile) -> list[AttributeReading]:
    identity = [reading for reading in profile.attributes if reading.kind == "identity" and reading.value]
    varying = [reading for reading in profile.attributes if reading.kind == "varying"]
    return [*sorted(identity, key=lambda r: -r.confidence), *varying]


def _draw_head(draw: ImageDraw.ImageDraw, profile: CharacterProfile) -> None:
    draw.text((_PADDING_PX, 22), profile.character_id, font=font(30, is_bold=True), fill=INK)
    draw.text((_WIDTH_PX - _PADDING_PX, 34), profile.series, font=font(15), fill=MUTED_INK, anchor="ra")
    width = _WIDTH_PX - 2 * _PADDING_PX
    draw.text((_PADDING_PX, 64), fitted(key_facts(profile), font(15), width), font=font(15), fill=INK)
    draw.text((_PADDING_PX, 87), fitted(company(profile), font(13), width), font=font(13), fill=MUTED_INK)


def _draw_palette(draw: ImageDraw.ImageDraw, profile: CharacterProfile, top_px: int, width_px: int) -> None:
    total = sum(color.share for color in profile.palette)
    least = min(_LEAST_SWATCH_PX, width_px / len(profile.palette))
    left = float(_PADDING_PX)
    for color in profile.palette:
        width = least + (width_px - least * len(profile.palette)) * color.share / total
        draw.rectangle((left, top_px, left + width - 4, top_px + 38), fill=color.hex, outline=(210, 206, 198))
        label = fitted(f"{color.name} {color.share:.0%}", font(11), width - 4)
        draw.text((left, top_px + 44), label, font=font(11), fill=MUTED_INK)
        left += width


def _draw_traits(draw: ImageDraw.ImageDraw, traits: Sequence[AttributeReading], top_px: int, width_px: int) -> None:
    column_px = width_px // 2
    for index, reading in enumerate(traits):
        left = _PADDING_PX + (index % 2) * (column_px + 8)
        top = top_px + (index // 2) * _LINE_PX
        draw.text((left, top), fitted(reading.title, font(13), 120), font=font(13), fill=MUTED_INK)
        bold = font(13, is_bold=True)
        if reading.kind == "varying":
            draw.text((left + 128, top), fitted(_variety(reading), bold, 304), font=bold, fill=INK)
            continue
        draw.text((left + 128, top), fitted(str(reading.value), bold, 208), font=bold, fill=INK)
        bar = (left + 344, top + 4, left + 424, top + 11)
        draw.rounded_rectangle(bar, 3, fill=_BAR_TRACK)
        draw.rounded_rectangle((*bar[:2], bar[0] + max(6, 80 * reading.confidence), bar[3]), 3, fill=_BAR)


def _variety(reading: AttributeReading) -> str:
    told = [f"{value} {share:.0%}" for value, share in reading.distribution.items() if share >= 0.1]
    return ", ".join(told[:3]) or "many"


def _paste_rounded(card: Image.Image, picture: Image.Image, place: tuple[int, int]) -> None:
    mask = Image.new("L", (picture.width * 4, picture.height * 4))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), 40, fill=255)
    card.paste(picture, place, mask.resize(picture.size, Image.Resampling.LANCZOS))
