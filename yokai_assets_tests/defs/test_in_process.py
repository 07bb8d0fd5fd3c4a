"""Runs in the command's own process: what a signal does to them."""

import os
import signal
import time

import dagster as dg
import pytest

from yokai_assets.defs.operations.in_process import InProcessRunner
from yokai_assets.defs.operations.observing import Observer
from yokai_assets.defs.operations.planning import NOT_MADE, Work
from yokai_assets.defs.operations.report import Interrupted, RoadReport
from yokai_assets.defs.operations.space import SpaceKeeper
from yokai_assets.gallery.failures import failures_file
from yokai_assets.storage.layout import Layout


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_road_and_is_no_failure(source, instance, kind) -> None:
    """Ctrl-C, a shutdown or `timeout` must neither fail the episode at work nor be passed over with the next one."""
    made = []

    @dg.asset
    def interrupted() -> None:
        os.kill(os.getpid(), kind)
        time.sleep(30)

    @dg.asset
    def afterwards() -> None:
        made.append("afterwards")

    settings = source.load()
    layout, observer = Layout.of(settings), Observer()
    jobs = [dg.define_asset_job(asset.key.path[0], selection=[asset]) for asset in (interrupted, afterwards)]
    definitions = dg.Definitions(assets=[interrupted, afterwards], jobs=jobs)
    space = SpaceKeeper(instance, settings, observer)
    runner = InProcessRunner(definitions, instance, layout, observer, space=space)
    work = [Work(name, None, (name,), {name: NOT_MADE}) for name in ("interrupted", "afterwards")]
    report = RoadReport()
    with pytest.raises(Interrupted):
        runner.run_all(lambda: iter(()), work, report)
    assert made == [] and report.failures == [] and not failures_file(layout).exists()
