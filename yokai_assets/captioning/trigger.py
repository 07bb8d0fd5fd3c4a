"""Trigger words: made-up, pronounceable, one for each character, always the same, unless a person chose another.

The word only; how it stands in captions is `captions`.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterable

from yokai_assets.captioning.overrides import OverridesError, read_overrides
from yokai_assets.captioning.tokens import token_ids
from yokai_assets.settings.model import CaptionSettings
from yokai_assets.storage.layout import Layout

_FIRST_CONSONANTS = "xzqvj"
_CONSONANTS = "bdfgjklmnprstvxz"
_VOWELS = "aeiou"
_SYLLABLES = len(_CONSONANTS) * len(_VOWELS)
_FIRST_SYLLABLES = len(_FIRST_CONSONANTS) * len(_VOWELS)
_WORD_COUNT = _FIRST_SYLLABLES * _SYLLABLES**3


def trigger_word(character_id: str, series: str, prefix: str) -> str:
    """Return the trigger word of a character, e.g. `ykaixoritema`.

    `prefix` and four syllables of consonant and vowel, the first with a consonant that hardly begins a syllable in
    English (x, z, q, v, j), so that no text encoder has a meaning for it.

    Within a series words are unique for all ids that end in a number below 12.8 million and share what stands
    before it (`cluster_000`, `cluster_001`, ...): their numbers are spread over all words by a one-to-one map that
    depends on the series. Words of other ids, and of other series, come from sha256 and coincide by chance only, one
    pair in 12.8 million.

    Args:
        character_id: Id given once by the registry.
        series: Name of the series.
        prefix: Beginning of the word; letters and digits of it are kept, in lower case.
    """
    stem, number = _number(character_id)
    multiplier = _hash(f"{series}/{stem}/multiplier") % (_WORD_COUNT // 10) * 10 + 7
    place = (number * multiplier + _hash(f"{series}/{stem}/offset")) % _WORD_COUNT
    return re.sub(r"[^a-z0-9]", "", prefix.lower()) + _syllables(place)


def trigger_problems(
    character_id: str, character_ids: Iterable[str], series: str, settings: CaptionSettings, layout: Layout
) -> tuple[str, list[str]]:
    """Return a character's trigger, and what speaks against it, in words.

    Args:
        character_id: Whom.
        character_ids: All characters of the series.
        series: Name of the series.
        settings: The prefix of made-up words.
        layout: Where people's corrections lie.
    """
    triggers = {}
    for name in {*character_ids, character_id}:
        chosen = None
        with contextlib.suppress(OverridesError):  # that character's own captions say so
            chosen = read_overrides(layout, name).trigger
        triggers[name] = chosen or trigger_word(name, series, settings.trigger_prefix)
    own = triggers.pop(character_id)
    tokens = token_ids(own)
    problems = ["it is one token, so the text encoder has a meaning for it"] if len(tokens) < 2 else []
    for name, other in sorted(triggers.items()):
        theirs = token_ids(other)
        if theirs[: len(tokens)] == tokens or tokens[: len(theirs)] == theirs:
            problems.append(f"{name} has {other!r}, of which one begins the other")
    return own, problems


def _number(character_id: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(\d{1,18})", character_id)
    return (match[1], int(match[2])) if match else ("", _hash(character_id))


def _syllables(place: int) -> str:
    place, first = divmod(place, _FIRST_SYLLABLES)
    word = _FIRST_CONSONANTS[first // len(_VOWELS)] + _VOWELS[first % len(_VOWELS)]
    for _ in range(3):
        place, syllable = divmod(place, _SYLLABLES)
        word += _CONSONANTS[syllable // len(_VOWELS)] + _VOWELS[syllable % len(_VOWELS)]
    return word


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
