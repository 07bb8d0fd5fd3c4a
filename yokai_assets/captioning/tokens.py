"""How many tokens of the text encoder a caption takes.

Counting only. Both Stable Diffusion 1.5 and XL read captions with CLIP's byte-pair encoding, which open_clip brings
along; a base model with another tokenizer counts a little differently.
"""

from functools import cache
from typing import Any

TOKEN_LIMIT = 75
"""Tokens beside the begin and end marks that one pass of CLIP's text encoder reads; what follows is cut off."""


@cache
def token_ids(text: str) -> tuple[int, ...]:
    """Return the token ids of a text, without begin and end marks."""
    return tuple(_tokenizer().encode(text))


@cache
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()
