"""Trigger words: made-up, pronounceable, one for each character, always the same.

The word only; how it stands in captions is `captions`.
"""

import hashlib
import re

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
