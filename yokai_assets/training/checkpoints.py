"""Training state on disk: everything a killed run needs to end with the same bits, in one file, whole or absent.

Not here: the LoRA files people use (`export`), or the decision what to do without a usable state (`trainer`).
"""

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

from upath import UPath

from yokai_assets.storage.files import sha256_of_parts, whole_file

_LOG = logging.getLogger(__name__)
STATE_FORMAT = 1
STATE_FILE = "state.pt"


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What a training run is made of. A state of another run is never continued.

    Attributes:
        character_id: Whose LoRA it is.
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
    """Return the state to continue from; None where there is none or it is unusable, with the reason in the log.

    Tensors are on the CPU. A state is unusable when it belongs to another run (other images, config or base model)
    or cannot be read; training then starts from step 0.
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
            _LOG.warning("%s: state of another format (%s): starting fresh.", path, saved["format"])
            return None
        differences = identity.differences(saved["identity"])
        state = dict(saved["state"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        _LOG.warning("%s: the training state cannot be read (%s): starting fresh.", path, error)
        return None
    if differences:
        _LOG.warning("%s is not continued, because %s: starting fresh.", path, "; ".join(differences))
        return None
    return state
