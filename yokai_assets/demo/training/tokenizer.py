"""A small byte-level CLIP tokenizer, learnt from captions, that can encode any text.

Byte-pair encoding after Sennrich et al. 2016 (arXiv:1508.07909), with the word-final marker of CLIP.
Not here: captions, or models.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 48
_WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")


def _byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes that GPT-2 and CLIP use."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(code) for code in printable] + [chr(256 + index) for index in range(len(others))]


def _merge(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)


def learn_merges(captions: Iterable[str], max_merges: int = 400, min_count: int = 20) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent first (ties: alphabetically, so the result depends on the captions only).

    Args:
        captions: texts; only ASCII letters take part in merges.
        max_merges: stop after so many.
        min_count: stop when no pair is as frequent.
    """
    word_counts: Counter[str] = Counter()
    for caption in captions:
        word_counts.update(_WORD.findall(caption.lower()))
    words = {(*word[:-1], word[-1] + "</w>"): n for word, n in word_counts.items() if word.isascii()}
    merges: list[tuple[str, str]] = []
    while len(merges) < max_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, n in words.items():
            for pair in pairwise(symbols):
                pairs[pair] += n
        if not pairs:
            break
        best, count = min(pairs.items(), key=lambda item: (-item[1], item[0]))
        if count < min_count:
            break
        merges.append(best)
        merged_words: dict[tuple[str, ...], int] = {}
        for symbols, n in words.items():
            merged = _merge(symbols, best)
            merged_words[merged] = merged_words.get(merged, 0) + n
        words = merged_words
    return merges


def build_tokenizer(merges: list[tuple[str, str]], max_tokens: int = MAX_TOKENS) -> CLIPTokenizer:
    """A `CLIPTokenizer` with 512 byte tokens, the merges, and CLIP's two special tokens; padded with the end token.

    Args:
        merges: from :func:`learn_merges`.
        max_tokens: length that prompts are padded or cut to, start and end token included.
    """
    from transformers import CLIPTokenizer

    symbols = _byte_symbols()
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *(a + b for a, b in merges)]
    vocabulary = {token: index for index, token in enumerate([*dict.fromkeys(tokens), START_TOKEN, END_TOKEN])}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,  # pyright: ignore[reportArgumentType]
        model_max_length=max_tokens,
        unk_token=END_TOKEN,
        bos_token=START_TOKEN,
        eos_token=END_TOKEN,
        pad_token=END_TOKEN,
    )
