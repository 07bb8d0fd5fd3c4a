"""Exact resume: real SIGKILLs at every kind of moment, and the same bits at the end."""

import json
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pytest

from yokai_assets_tests.training import kill_target
from yokai_assets_tests.training.tiny import CHARACTER, make_layout

KILLS = [moment for moment in kill_target.MOMENTS if moment != "never"]


def start(base: Path, root: Path, variant: str, moment: str) -> tuple[int | None, dict[str, Any] | None]:
    """Run a training in a process of its own; return its exit code and what it ended with."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([kill_target.__name__])
    answer = root.parent / f"{root.name}-{moment}.json"
    arguments = (str(base), str(root), variant, moment, str(answer))
    process = context.Process(target=kill_target.run, args=arguments)
    process.start()
    process.join(200)
    return process.exitcode, json.loads(answer.read_text()) if answer.exists() else None


@pytest.mark.timeout(400)
@pytest.mark.parametrize("variant", list(kill_target.VARIANTS))
def test_killed_again_and_again_it_ends_with_the_same_bits(base_folder: Path, tmp_path: Path, variant: str) -> None:
    """The promise users miss most elsewhere: a killed training goes on as if nothing had happened."""
    code, undisturbed = start(base_folder, tmp_path / "whole", variant, "never")
    assert code == 0
    assert undisturbed is not None
    layout = make_layout(tmp_path / "killed")
    state = layout.training_state(CHARACTER) / "state.pt"
    has_state = {}
    for moment in KILLS:
        code, ended = start(base_folder, tmp_path / "killed", variant, moment)
        assert (code, ended) == (-signal.SIGKILL, None), moment
        has_state[moment] = state.exists()
    assert not has_state["before the first state"]
    assert has_state["in step 5 of a fresh start"]
    code, resumed = start(base_folder, tmp_path / "killed", variant, "never")
    assert code == 0
    assert resumed is not None
    # All was saved before "after training", and the record says so since "tidying up".
    assert resumed.pop("resumed_from_step") == 6
    assert (resumed.pop("was_finished"), undisturbed.pop("was_finished")) == (True, False)
    assert undisturbed.pop("resumed_from_step") == 0
    assert resumed == undisturbed
    assert len(undisturbed["losses"]) == 6
    assert len(undisturbed["loras"]) == 2
    assert not state.exists()
    leftovers = [file.name for file in layout.lora(CHARACTER).iterdir() if ".partial-" in file.name]
    assert leftovers == []
