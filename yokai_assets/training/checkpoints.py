"""Training state on disk: everything a killed run needs to end with the same bits, in one file, whole or absent.

Not here: the LoRA files people use (`export`), or the decision what to do without a usable state (`trainer`).
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from upath import UPath

from yokai_assets.storage.files import sha256_of_parts, whole_file

STATE_FORMAT = 2
STATE_FILE = "state.pt"


class StateRefusedError(RuntimeError):
    """There is a training state that must not be continued; the message names it and says what differs."""


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What a training run is made of. A state of another run is never continued.

    Attributes:
        character_id: Whose LoRA it is: the character's id, or the name of the LoRA.
        base_fingerprint: sha256 over the base model's files.
        dataset_fingerprint: sha256 over pixels, captions, masks and splits.
        config: Everything chosen that changes the result, the seed among it; JSON values.
    """

    character_id: str
    base_fingerprint: str
    dataset_fingerprint: str
    config: dict[str, Any]

    @property
    def config_fingerprint(self) -> str:
        """sha256 over the config."""
        return sha256_of_parts(self.config)

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """Say in words what a saved identity has that this one has not; empty where they are the same run."""
        words = []
        if saved.get("character_id") != self.character_id:
            words.append(f"it belongs to {saved.get('character_id')}")
        if saved.get("base_fingerprint") != self.base_fingerprint:
            words.append("the base model changed")
        if saved.get("dataset_fingerprint") != self.dataset_fingerprint:
            words.append("the training images, masks or captions changed")
        before, now = dict(saved.get("config") or {}), json.loads(json.dumps(self.config, default=str))
        changed = (name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name))
        words.extend(f"{name} changed from {before.get(name)} to {now.get(name)}" for name in changed)
        return words

    def to_json(self) -> dict[str, Any]:
        """Return the identity as JSON values."""
        return json.loads(json.dumps(asdict(self), default=str))


def save_state(folder: UPath, identity: RunIdentity, state: dict[str, Any]) -> None:
    """Write a run's state; a kill leaves the previous state.

    Args:
        folder: The run's state folder.
        identity: What the state belongs to.
        state: Tensors, numbers, strings, and lists and dicts of them.
    """
    import torch

    with whole_file(folder / STATE_FILE) as temporary:
        torch.save({"format": STATE_FORMAT, "identity": identity.to_json(), "state": state}, temporary)


def load_state(folder: UPath, identity: RunIdentity) -> dict[str, Any] | None:
    """Return the state to continue from, tensors on the CPU; None where there is none.

    Raises:
        StateRefusedError: It belongs to another run (other images, config or base model), or cannot be read.
    """
    import io
    import pickle

    import torch

    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        saved = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
        if saved["format"] != STATE_FORMAT:
            raise StateRefusedError(f"{path} is not continued: it is of another version of this program")
        differences = identity.differences(saved["identity"])
        state = dict(saved["state"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        if isinstance(error, StateRefusedError):
            raise
        raise StateRefusedError(f"{path} is not continued: it cannot be read ({error})") from error
    if differences:
        raise StateRefusedError(f"{path} is not continued, because {'; '.join(differences)}")
    return state
