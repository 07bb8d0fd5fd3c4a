"""The graph as a whole: what exists, how it hangs together, and the policies that every part must follow."""

from operator import attrgetter

import dagster as dg
import pytest
from syrupy.assertion import SnapshotAssertion

from yokai_assets.definitions import build_definitions
from yokai_assets.defs.checking import BLOCKING_CHECKS
from yokai_assets.defs.operations.planning import UPSTREAM
from yokai_assets.defs.policies import GPU_POOL, POLICIES
from yokai_assets.defs.results import ASSET_SETTINGS, settings_fingerprint
from yokai_assets.defs.tables import ASSET_TABLES
from yokai_assets.settings import Settings


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions()


@pytest.fixture(scope="module")
def specs(definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_definitions_load(definitions):
    """The code location must load as a whole: resources bound, jobs resolvable."""
    dg.Definitions.validate_loadable(definitions)


def test_graph_is_as_agreed(definitions, specs, snapshot: SnapshotAssertion):
    """Keys, deps, partition mappings, groups, kinds and checks change on purpose only."""
    graph = {
        name: {
            "group": spec.group_name,
            "kinds": sorted(spec.kinds),
            "partitions": getattr(spec.partitions_def, "name", None),
            "deps": {
                dep.asset_key.to_user_string(): type(dep.partition_mapping).__name__ if dep.partition_mapping else None
                for dep in sorted(spec.deps, key=lambda dep: dep.asset_key)
            },
        }
        for name, spec in sorted(specs.items())
    }
    checks = {
        f"{spec.asset_key.to_user_string()}.{spec.name}": "blocking" if spec.blocking else "telling"
        for check in definitions.asset_checks or []
        for spec in check.check_specs
    }
    others = {
        "jobs": sorted(job.name for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")),
        "schedules": sorted(s.name for s in definitions.schedules or []),
        "sensors": sorted(s.name for s in definitions.sensors or []),
    }
    assert {"assets": graph, "checks": dict(sorted(checks.items())), **others} == snapshot


def test_every_asset_is_described_and_owned(specs):
    """What a person reads in the UI: what it is, whose it is, which version of code made it."""
    for name, spec in specs.items():
        assert len(spec.description or "") > 40, f"{name} has no description"
        assert spec.owners, f"{name} has no owner"
        assert spec.kinds, f"{name} has no kinds"
        assert spec.code_version, f"{name} has no code version"


def test_tables_show_their_columns(specs):
    """Every table asset carries schema, lineage and table name from its spec."""
    for name in ASSET_TABLES:
        assert {"dagster/column_schema", "dagster/column_lineage", "dagster/table_name"} <= set(specs[name].metadata)


def test_dependencies_across_domains_say_how_partitions_map(specs):
    """Between two dynamic domains Dagster would silently match equal key strings; every crossing is explicit."""
    for name, spec in specs.items():
        for dep in spec.deps:
            upstream = specs[dep.asset_key.to_user_string()]
            crosses = spec.partitions_def != upstream.partitions_def and upstream.partitions_def is not None
            assert not crosses or dep.partition_mapping is not None, f"{upstream.key} -> {name} has no mapping"


def test_every_asset_is_in_a_job(definitions):
    """Protects: a backfill of a domain's job from the UI makes all of that domain."""
    made = {
        key.to_user_string()
        for job in definitions.resolve_all_job_defs()
        if not job.name.startswith("__")
        for key in job.asset_layer.selected_asset_keys
    }
    assert made == set(POLICIES) - {"character_decisions"}


def test_networks_wait_for_their_pool(definitions):
    """Two networks on one GPU at once would run out of memory: assets that use it stand in its pool."""
    for name, policy in POLICIES.items():
        if name == "character_decisions":  # made by people
            continue
        pools = {op.pool for op in definitions.resolve_assets_def(name).node_def.iterate_op_defs()}
        assert policy.pool in pools, f"{name} is not in pool {policy.pool}"
    assert {n for n, p in POLICIES.items() if p.pool == GPU_POOL} == {
        "character_layers",
        "embeddings",
        "captions",
        "lora_model",
        "lora_evaluation",
    }


def test_the_planner_knows_the_graph(definitions, specs):
    """The planner's picture of the road must not drift from the definitions."""
    made = {a for job in UPSTREAM.values() for a in job}
    assert set(POLICIES) == set(specs) == made | {"character_decisions"}
    assert set(ASSET_SETTINGS) == made
    for job in UPSTREAM.values():
        for name, upstream in job.items():
            same = {d.asset_key.to_user_string() for d in specs[name].deps} & set(job)
            assert same == set(upstream), f"{name} reads {sorted(same)}, the planner thinks {sorted(upstream)}"
    blocking: dict[str, list[str]] = {}
    for check in definitions.asset_checks or []:
        for spec in check.check_specs:
            if spec.blocking:
                blocking.setdefault(spec.asset_key.to_user_string(), []).append(spec.name)
    assert {k: sorted(v) for k, v in blocking.items()} == {k: sorted(v) for k, v in BLOCKING_CHECKS.items()}


def test_settings_of_assets_exist():
    """A misspelt section would make an asset blind to changed settings."""
    for name in {name for names in ASSET_SETTINGS.values() for name in names}:
        attrgetter(name)(Settings())


def test_training_resolution_makes_the_training_set_stale():
    """Images on disk have the area that training wants: at 1024, a set made for 512 would train on small pictures."""
    small, large = (Settings.model_validate({"training": {"resolution_px": side}}) for side in (512, 1024))
    longer = Settings.model_validate({"training": {"max_train_steps": 3}})
    versions = [settings_fingerprint(s, "training_dataset") for s in (small, large, longer)]
    assert versions[0] == versions[2] != versions[1]


def test_steps_share_a_process_also_without_a_job():
    """Protects what is materialized in the UI from loading every model again for every step."""
    assert build_definitions().resolve_implicit_global_asset_job_def().executor_def.name == "in_process"
