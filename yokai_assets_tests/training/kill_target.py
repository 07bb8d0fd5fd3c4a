"""A training that ends itself with SIGKILL at a chosen moment; run in a process of its own.

The heavy imports are at the top on purpose: the fork server loads them once for all processes of the test.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers.optimization
import diffusers.training_utils
import peft
import torch
from diffusers import StableDiffusionPipeline

from yokai_assets.training import trainer
from yokai_assets_tests.training.tiny import make_dataset, make_layout, make_settings, tiny_training

_IMPORTED = (diffusers.optimization, diffusers.training_utils, peft, StableDiffusionPipeline)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_step(step: int) -> None:
    """Die with the gradients of `step` computed and its update half done."""
    original = torch.nn.utils.clip_grad_norm_
    done = 0

    def clip(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        if done == step:
            die()
        return original(*args, **kwargs)

    torch.nn.utils.clip_grad_norm_ = clip  # pyright: ignore[reportAttributeAccessIssue]


def kill_writing_state() -> None:
    """Die with half of the state file written."""

    def save(value: Any, path: Path) -> None:
        import io

        buffer = io.BytesIO()
        original(value, buffer)
        Path(path).write_bytes(buffer.getvalue()[: buffer.tell() // 2])
        die()

    original, torch.save = torch.save, save  # pyright: ignore[reportAttributeAccessIssue]


def kill_before_state() -> None:
    """Die with the LoRA written and the state not."""
    trainer.save_state = lambda *args: die()


def kill_writing_lora() -> None:
    """Die with the LoRA written under its temporary name and not yet verified."""
    from yokai_assets.training import export

    export.verify_export = lambda *args: die()  # pyright: ignore[reportAttributeAccessIssue]


def kill_after_training() -> None:
    """Die with everything saved and nothing tidied up."""
    trainer.write_training_record = lambda *args: die()


def kill_tidying_up() -> None:
    """Die with the record written and the state still there."""
    trainer._remove_folder = lambda *args: die()


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {
        "optimizer": "prodigy",
        "train_text_encoder": True,
        "gradient_accumulation_steps": 2,
        "shuffle_tags": True,
        "noise_offset": 0.1,
        "caption_dropout": 0.3,
        "prior_preservation": 0.3,
        "save_diffusers_format": True,
    },
}

MOMENTS: dict[str, Callable[[], None]] = {
    "in step 2": lambda: kill_in_step(2),
    "writing the first state": kill_writing_state,
    "before the first state": kill_before_state,
    "in step 5 of a fresh start": lambda: kill_in_step(5),
    "in step 2 of a resumed start": lambda: kill_in_step(2),
    "writing a LoRA": kill_writing_lora,
    "writing the last state": kill_writing_state,
    "after training": kill_after_training,
    "tidying up": kill_tidying_up,
    "never": lambda: None,
}


def run(base: str, root: str, variant: str, moment: str, answer: str) -> None:
    """Train; if it comes to an end, write what it ended with to `answer`."""
    torch.set_num_threads(1)
    MOMENTS[moment]()
    layout = make_layout(Path(root))
    dataset = make_dataset(layout)
    result = trainer.train_lora(
        *tiny_training(layout, dataset), make_settings(Path(base), **VARIANTS[variant]), "cpu", 7, header={}
    )
    Path(answer).write_text(
        json.dumps(
            {
                "loras": {c.path.name: c.path.read_bytes().hex() for c in result.checkpoints},
                "losses": result.losses.tolist(),
                "grad_norms": result.grad_norms.tolist(),
                "validation": result.validation_losses,
                "resumed_from_step": result.resumed_from_step,
                "was_finished": result.was_finished,
            }
        )
    )
