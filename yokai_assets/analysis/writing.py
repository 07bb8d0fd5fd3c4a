"""A profile's files: `profile.json` for programs, `profile.md` for reading, `summary.webp` to look at.

Files only. The folder is swapped as one on a local data root; on an object store the JSON is written last, so
whoever finds it finds the rest.
"""

from pathlib import Path

from PIL import Image
from pydantic import ValidationError
from upath import UPath

from yokai_assets.analysis.card import draw_card
from yokai_assets.analysis.markdown import profile_markdown
from yokai_assets.analysis.profile import CharacterProfile
from yokai_assets.frames.decoding import FrameError
from yokai_assets.previews.encode import encode_preview
from yokai_assets.segmentation.layers import load_cutout
from yokai_assets.storage.files import is_local, recover_folder
from yokai_assets.storage.folders import replaced_folder
from yokai_assets.storage.layout import Layout

PROFILE_FILE = "profile.json"


def write_profile(profile: CharacterProfile, layout: Layout) -> UPath:
    """Write the three files of a profile, whole or absent, and return their folder."""
    folder = layout.ai_analysis(profile.character_id)
    picture = encode_preview(draw_card(profile, _exemplar_pictures(profile, layout)))
    with replaced_folder(folder, last=PROFILE_FILE) as temporary:
        (temporary / "summary.webp").write_bytes(picture)
        text = f"{profile_markdown(profile)}\n![summary](summary.webp)\n"
        (temporary / "profile.md").write_text(text, "utf-8")
        (temporary / PROFILE_FILE).write_text(profile.model_dump_json(indent=2) + "\n", "utf-8")
    return folder


def read_profile(layout: Layout, character_id: str) -> CharacterProfile:
    """Read a profile back.

    Raises:
        FileNotFoundError: It has not been made yet.
        ValueError: The file is damaged or of an older form; the message names the remedy.
    """
    folder = layout.ai_analysis(character_id)
    if is_local(folder):
        recover_folder(Path(str(folder)))
    path = folder / PROFILE_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path}: no profile yet. Materialize `character_profile` for {character_id} first.")
    try:
        return CharacterProfile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{path}: not a profile of this version ({error.error_count()} problems). "
            f"Materialize `character_profile` for {character_id} again."
        ) from error


def _exemplar_pictures(profile: CharacterProfile, layout: Layout) -> list[Image.Image]:
    pictures = []
    for exemplar in profile.exemplars:
        try:
            pictures.append(load_cutout(layout, exemplar.cutout))
        except FrameError:
            continue  # the profile's notes and the layers' check tell of unreadable cut-outs
    return pictures
