"""Asking Dagster for runs as the UI does: through its GraphQL schema, on the shipped workspace.

The only module that knows GraphQL. The schema is executed in this process (no webserver is needed), on a code server
of its own; runs that it launches go into the instance's queue and are executed by the daemon's code server.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

LOCATION = "yokai_assets"
REPOSITORY = "__repository__"

_LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on Error { message }
  }
}
"""
_TERMINATE = """
mutation($id: String!) {
  terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) { __typename ... on Error { message } }
}
"""
_AUTOMATION = """
{
  repositoriesOrError {
    ... on RepositoryConnection { nodes { location { name }
      sensors { name sensorState { id status } } schedules { name scheduleState { id status } } } }
    ... on PythonError { message }
  }
}
"""
_SWITCHES = {
    ("sensor", True): "mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }",
    ("sensor", False): "mutation($id: String!) { stopSensor(id: $id) { __typename } }",
    ("schedule", True): "mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename } }",
    ("schedule", False): "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }",
}


class WorkspaceError(RuntimeError):
    """Dagster refused what it was asked for, or cannot load the code location; the message is Dagster's own."""


class Workspace:
    """The shipped code location, as the UI sees it."""

    def __init__(self, context: WorkspaceProcessContext) -> None:
        self._context = context

    def launch(
        self,
        job: str,
        assets: Sequence[str],
        tags: Mapping[str, str],
        run_config: Mapping[str, Any],
    ) -> str:
        """Put a run of a job's assets into the queue. Returns its id.

        Raises:
            WorkspaceError: It cannot be launched.
        """
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": REPOSITORY,
            "jobName": job,
            "assetSelection": [{"path": [asset]} for asset in assets],
        }
        metadata = {"tags": [{"key": key, "value": value} for key, value in tags.items()]}
        params = {"selector": selector, "runConfigData": run_config, "executionMetadata": metadata}
        answer = self._ask(_LAUNCH, {"params": params})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            problems = [error["message"] for error in answer.get("errors", [])] or [answer.get("message", "")]
            raise WorkspaceError(f"Dagster launches no run of `{job}`: {'; '.join(problems)}")
        return answer["run"]["runId"]

    def terminate(self, run_id: str) -> None:
        """Take a run out of the queue, or interrupt it: it ends as canceled."""
        self._ask(_TERMINATE, {"id": run_id})

    def automation(self) -> dict[str, tuple[str, bool, str]]:
        """Return name -> (`sensor` or `schedule`, whether it is on, its id)."""
        answer = self._ask(_AUTOMATION, {})["repositoriesOrError"]
        found = {}
        for node in answer.get("nodes", []):
            if node["location"]["name"] == LOCATION:
                for kind in ("sensor", "schedule"):
                    for item in node[f"{kind}s"]:
                        state = item[f"{kind}State"]
                        found[item["name"]] = (kind, state["status"] == "RUNNING", state["id"])
        if not found:
            raise WorkspaceError(f"the code location cannot be loaded: {answer.get('message') or 'see above'}")
        return found

    def switch(self, name: str, is_on: bool) -> None:
        """Turn a sensor or schedule on or off; Dagster keeps that in the instance."""
        kind, _, state_id = self.automation()[name]
        selector = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, f"{kind}Name": name}
        self._ask(_SWITCHES[kind, is_on], {"s": selector} if is_on else {"id": state_id})

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        from dagster_graphql.cli import execute_query

        answer: dict[str, Any] = {**execute_query(self._context, query, variables)}
        if answer.get("errors"):
            raise WorkspaceError("; ".join(error["message"] for error in answer["errors"]))
        return answer["data"]


@contextmanager
def open_workspace(instance: dg.DagsterInstance, file: Path) -> Iterator[Workspace]:
    """Yield the code location of a workspace file."""
    target = WorkspaceFileTarget([str(file)])
    with WorkspaceProcessContext(instance, target, code_server_log_level="warning") as context:
        yield Workspace(context)
