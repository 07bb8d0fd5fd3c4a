"""`yokai run --in-process` killed by SIGKILL, started again: at its end nothing shows that it was ever killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from yokai_assets.defs.policies import POLICIES
from yokai_assets_tests.faults.road import choose, figures, kill_again_and_again
from yokai_assets_tests.faults.sameness import differences, unfinished
from yokai_assets_tests.faults.undisturbed import Undisturbed, drive_undisturbed, left_running
from yokai_assets_tests.town import Town

SEED = int(os.environ.get("YOKAI_FAULTS_SEED", "1"))
"""Another one kills at other moments; it is printed."""

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(3600)]


def kill_and_compare(undisturbed: Undisturbed, count: int) -> set[str]:
    """Kill so often, let it end, compare; returns the steps that were hit."""
    town, root = undisturbed.town, undisturbed.clear()
    print(
        f"\nseed {SEED}; undisturbed: {undisturbed.attempt.seconds:.0f} s, {sum(undisturbed.journal.moments)} moments"
    )
    start = time.monotonic()
    hits, last = kill_again_and_again(town, choose(undisturbed.journal, count, SEED), undisturbed.journal)
    print(f"{figures(hits)}; {time.monotonic() - start:.0f} s")
    assert len(hits) == count
    assert not last.failures and not last.planned
    assert differences(undisturbed.reference, root) == []
    assert unfinished(root) == []
    assert left_running(town) == []
    return {hit.step[0] for hit in hits}


def test_a_road_that_is_killed_leads_to_the_same(small: Undisturbed) -> None:
    """A sample: four kills at random moments, then the very files of an undisturbed run."""
    kill_and_compare(small, 4)


@pytest.mark.faults
def test_a_road_that_is_killed_everywhere_leads_to_the_same(tmp_path: Path) -> None:
    """Killed in every asset of the road at least once, and most often where most is written."""
    town = Town(tmp_path)
    town.draw(2)
    made = drive_undisturbed(town)
    hit = kill_and_compare(made, max(40, len({step[0] for step in made.journal.steps})))
    assert POLICIES.keys() - {"character_decisions"} <= hit


@pytest.mark.faults
def test_loading_the_matte_leaves_the_threads_of_torch() -> None:
    """What loads numba sets OpenMP's threads: pictures then differ by what the process had loaded before."""
    program = (
        "import torch; from yokai_assets.devices import limit_threads;"
        "from yokai_assets.settings.model import SegmentationSettings;"
        "limit_threads(1); from yokai_assets.segmentation.matte import open_matte;"
        "open_matte(SegmentationSettings(model='demo'), 'cpu'); print(torch.get_num_threads())"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200)
    assert said.stdout.split() == ["1"], said.stderr
