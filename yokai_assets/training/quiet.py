"""Keeping libraries' notes to programmers, and their own progress bars, out of users' logs.

Only what is said elsewhere in our own words, or says nothing to a user.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Load models without the libraries' progress bars and deprecations."""
    import diffusers.utils.logging
    import transformers.utils.logging

    loggers = (diffusers.utils.logging, transformers.utils.logging)
    for logger in loggers:
        logger.disable_progress_bar()
    try:
        with warnings.catch_warnings(), quiet_about_precision():
            # diffusers renamed the option lately; the older versions we allow know only the old name.
            warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
            yield
    finally:
        for logger in loggers:
            logger.enable_progress_bar()


@contextmanager
def quiet_about_text_encoders() -> Iterator[None]:
    """Load LoRAs without the warning that a UNet-only one, as most of ours, has nothing for the text encoders."""
    with _without("diffusers.loaders.lora_base", "No LoRA keys associated to CLIPTextModel"):
        yield


@contextmanager
def quiet_about_long_captions(pipeline: object) -> Iterator[None]:
    """Encode captions without a warning for each one that is too long: `encoding` reports them once."""
    with (
        _without(type(pipeline).__module__, "The following part of your input was truncated"),
        _without("transformers.tokenization_utils_base", "Token indices sequence length is longer"),
    ):
        yield


@contextmanager
def quiet_about_precision() -> Iterator[None]:
    """Change dtypes without a warning that lists no module."""
    with _without("diffusers.models.modeling_utils", "There are modules in"):
        yield


@contextmanager
def _without(logger_name: str, beginning: str) -> Iterator[None]:
    def is_wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(beginning)

    logger = logging.getLogger(logger_name)
    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)
