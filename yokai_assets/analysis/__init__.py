"""What a character is like: attributes read by a vision-language model, palette, sizes, screen time, company.

Here belong the words (`vocabulary`), their zero-shot reading (`zero_shot`), colours (`palette`) and the profile.
Captions of single images are `yokai_assets.captioning`.
"""

from yokai_assets.analysis.profile import CharacterProfile, profile_character
from yokai_assets.analysis.vocabulary import Vocabulary, VocabularyError, load_vocabulary
from yokai_assets.analysis.writing import read_profile, write_profile

__all__ = [
    "CharacterProfile",
    "Vocabulary",
    "VocabularyError",
    "load_vocabulary",
    "profile_character",
    "read_profile",
    "write_profile",
]
