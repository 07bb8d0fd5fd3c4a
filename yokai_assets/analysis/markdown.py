"""A profile in Markdown, for reading in the UI and beside its picture.

Text only; the content is `profile`, files are `writing`.
"""

from yokai_assets.analysis.card import company, key_facts
from yokai_assets.analysis.profile import AttributeReading, CharacterProfile


def profile_markdown(profile: CharacterProfile) -> str:
    """Return the profile as Markdown."""
    parts = [
        f"# {profile.character_id}\n\n{key_facts(profile)}  \n{company(profile)}",
        _trait_section("What belongs to the character", profile, "identity"),
        _trait_section("What changes", profile, "varying"),
        _palette_section(profile),
        _outfit_section(profile),
        _similar_section(profile),
        _size_section(profile),
        _episode_section(profile),
        _origin_section(profile),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _trait_section(heading: str, profile: CharacterProfile, kind: str) -> str:
    readings = [reading for reading in profile.attributes if reading.kind == kind]
    rows = [
        f"| {r.title} | {r.value or '*cannot be told*'} | {r.confidence:.0%} | {r.image_share:.0%} | {_rest(r)} |"
        for r in readings
    ]
    head = "| trait | value | probability | share of images | next |\n|---|---|---:|---:|---|"
    return f"## {heading}\n\n{head}\n" + "\n".join(rows) if rows else ""


def _rest(reading: AttributeReading) -> str:
    others = [(value, share) for value, share in reading.distribution.items() if value != reading.value]
    return ", ".join(f"{value} {share:.0%}" for value, share in others[:2])


def _palette_section(profile: CharacterProfile) -> str:
    rows = [f"| `{c.hex}` | {c.name} | {c.share:.0%} |" for c in profile.palette]
    return "## Palette\n\n| colour | name | share |\n|---|---|---:|\n" + "\n".join(rows) if rows else ""


def _outfit_section(profile: CharacterProfile) -> str:
    if len(profile.outfits) < 2:
        return ""
    rows = []
    for number, outfit in enumerate(profile.outfits):
        colors = ", ".join(dict.fromkeys(color.name for color in outfit.palette))
        rows.append(f"| {number} | {outfit.share:.0%} | {colors} | `{outfit.exemplar.instance_id}` |")
    return "## Outfits\n\n| outfit | share | colours | shown best by |\n|---|---:|---|---|\n" + "\n".join(rows)


def _similar_section(profile: CharacterProfile) -> str:
    rows = [f"| {other.character_id} | {other.cosine:.2f} |" for other in profile.similar]
    return "## Most like it\n\n| character | cosine |\n|---|---:|\n" + "\n".join(rows) if rows else ""


def _size_section(profile: CharacterProfile) -> str:
    sizes = profile.sizes
    rows = [
        f"| {name} | {values[0]:g} | {values[1]:g} – {values[2]:g} |"
        for name, values in (
            ("width (px)", sizes.width_px),
            ("height (px)", sizes.height_px),
            ("height (share of the frame)", sizes.frame_height_share),
            ("width : height", sizes.aspect_ratio),
        )
    ]
    return (
        "## Size\n\n| measure | median | 10th – 90th percentile |\n|---|---:|---|\n"
        + "\n".join(rows)
        + f"\n\nCut off by the frame's edge in {sizes.cut_off_share:.0%} of the images."
    )


def _episode_section(profile: CharacterProfile) -> str:
    rows = [f"| {p.episode} | {p.image_count} | {p.screen_time_frames} |" for p in profile.episodes]
    return "## Episodes\n\n| episode | images | frames on screen |\n|---|---:|---:|\n" + "\n".join(rows)


def _origin_section(profile: CharacterProfile) -> str:
    notes = "".join(f"\n- {note}" for note in profile.notes)
    return (
        f"## How this was made\n\nTraits were read zero-shot off {profile.read_image_count} of {profile.image_count} "
        f"images with the words of vocabulary `{profile.vocabulary}`; a value is told from a probability of "
        f"{profile.min_confidence:.0%} on.\n\n"
        f"- model `{profile.model_fingerprint[:16]}`\n- vocabulary `{profile.vocabulary_fingerprint[:16]}`{notes}"
    )
