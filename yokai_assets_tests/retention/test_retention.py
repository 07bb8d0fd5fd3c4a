"""What goes and what stays on disk: nothing that is needed, nothing without a note, nothing that was not asked for."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from upath import UPath

from yokai_assets.retention.applying import apply_retention
from yokai_assets.retention.ledger import LayerKind, forget_removal, removed_layers
from yokai_assets.retention.planning import Needs, plan_retention
from yokai_assets.settings.retention import RetentionSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.record import finished_checkpoints
from yokai_assets_tests.gallery.sample import SampleSeries

AT = datetime(2026, 3, 1, tzinfo=UTC)


def settings(**values) -> RetentionSettings:
    return RetentionSettings.model_validate(values)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Three episodes of three cut-outs and a plate of 1 MB each, with the journal of their making."""
    layout = Layout(UPath(tmp_path), "series")
    for episode in ("e1", "e2", "e3"):
        for kind, names in {LayerKind.CHARACTERS: ("a", "b", "c"), LayerKind.BACKGROUNDS: ("shot",)}.items():
            folder = kind.folder(layout, episode)
            folder.mkdir(parents=True)
            for name in names:
                (folder / f"{name}.webp").write_bytes(bytes(1_000_000))
        (layout.character_layers(episode) / "processed.json").write_text("{}")
    return layout


def files(layout: Layout) -> set[str]:
    return {layout.relative(file) for file in layout.layers.rglob("*.webp")}


def removed(layout: Layout, before: set[str], policy: RetentionSettings, needs: Needs | None = None) -> set[str]:
    result = apply_retention(plan_retention(layout, policy, needs or Needs()), layout, at=AT)
    assert not result.problems
    return before - files(layout)


def test_as_shipped_no_layer_goes(layout: Layout) -> None:
    """Protects hours of a GPU from a default."""
    assert removed(layout, files(layout), settings()) == set()


def test_a_budget_holds_before_anything_is_made_of_the_layers(layout: Layout) -> None:
    """Protects the disk: 200 episodes are cut out before the first training set; what will be read goes last."""
    before = files(layout)
    needs = Needs(episodes={"e1": "run 1 is making it"}, wanted={"e2": "the series is to be clustered first"})
    policy = settings(layers="budget_gb", budget_gb=0.0075)
    gone = removed(layout, before, policy, needs)
    assert {path.split("/")[-3] for path in gone} == {"e2", "e3"}
    assert set(removed_layers(layout)) == {"e2", "e3"}
    assert removed(layout, files(layout), policy, needs) == set(), "it fits now"


def test_what_is_needed_or_shown_stays_and_the_rest_is_known_to_be_removed(layout: Layout) -> None:
    """Protects what is not made yet, the pictures of the report, and the difference of removed and missing."""
    before, shown = files(layout), layout.relative(layout.character_layers("e1") / "a.webp")
    needs = Needs(episodes={"e2": "cluster_000 is to be made"}, shown=frozenset((shown,)))
    plan = plan_retention(layout, settings(layers="until_dataset"), needs)
    assert [(kept.partition, kept.size_bytes, kept.why) for kept in plan.kept] == [
        ("e2", 3_000_000, "cluster_000 is to be made")
    ]
    gone = removed(layout, before, settings(layers="until_dataset"), needs)
    assert sorted(path.split("/")[-3:] for path in gone) == [
        ["e1", "characters", "b.webp"],
        ["e1", "characters", "c.webp"],
        ["e3", "characters", "a.webp"],
        ["e3", "characters", "b.webp"],
        ["e3", "characters", "c.webp"],
    ]
    assert {episode: set(kinds) for episode, kinds in removed_layers(layout).items()} == {
        "e1": {LayerKind.CHARACTERS},
        "e3": {LayerKind.CHARACTERS},
    }
    assert (layout.character_layers("e3") / "processed.json").exists()  # knows the frames without anybody
    forget_removal(layout, "e3", LayerKind.CHARACTERS)
    assert list(removed_layers(layout)) == ["e1"]


def test_a_budget_takes_no_more_than_it_must(layout: Layout) -> None:
    """Protects layers that fit: 12 MB are there, 8 may be, so two episodes' cut-outs go and the third's stay."""
    gone = removed(layout, files(layout), settings(layers="budget_gb", budget_gb=0.008))
    assert {path.split("/")[2] for path in gone} == {"e1", "e2"}
    assert removed(layout, files(layout), settings(layers="budget_gb", budget_gb=0.008)) == set()


def test_a_kill_between_note_and_removal_leaves_nothing_missing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the order: a layer that is gone is always noted; the next pass removes what the killed one left."""
    unlink, count = Path.unlink, 0

    def dies(path: Path, *arguments, **more) -> None:
        nonlocal count
        count += path.suffix == ".webp"
        if count == 3:
            raise KeyboardInterrupt
        unlink(path, *arguments, **more)

    policy = settings(layers="until_dataset", plates="like_layers")
    monkeypatch.setattr(Path, "unlink", dies)
    with pytest.raises(KeyboardInterrupt):
        apply_retention(plan_retention(layout, policy, Needs()), layout)
    monkeypatch.undo()
    noted = removed_layers(layout)
    for episode in ("e1", "e2", "e3"):
        for kind in LayerKind:
            names = [file.name for file in kind.folder(layout, episode).iterdir() if file.suffix == ".webp"]
            is_whole = len(names) == (3 if kind is LayerKind.CHARACTERS else 1)
            assert is_whole or kind in noted[episode]
    apply_retention(plan_retention(layout, policy, Needs()), layout)
    assert files(layout) == set()


def test_the_oldest_cache_entries_go(layout: Layout) -> None:
    """Protects the disk from caches that only grow, and the newest entries, which the next training wants."""
    for age, name in enumerate(("new", "old", "oldest")):
        file = layout.cache / "latents" / name[:2] / f"{name}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1_000_000))
        os.utime(str(file), (1e9 - age, 1e9 - age))
    plan = plan_retention(layout, settings(latents_budget_gb=0.0015), Needs())
    assert [path.name for removal in plan.removals for path in removal.paths] == [
        "oldest.safetensors",
        "old.safetensors",
    ]


def test_judged_checkpoints_go_but_not_the_chosen_the_last_or_one_in_use(tmp_path: Path) -> None:
    """Protects what was published and what an equal training is recognised by; a record never names what is gone."""
    series = SampleSeries(tmp_path, character_count=1, episode_count=1, side_px=32, exemplar_count=2, image_count=4)
    series.write()
    layout = series.layout
    character = "cluster_000"
    names, steps = TrainingFiles.of_character(layout, character), [500, 1000, 1500, 2000, 2500]
    for step in steps:
        if not names.checkpoint(step).exists():
            names.checkpoint(step).write_bytes(b"weights")
    entries = [{"step": step, "file": names.checkpoint(step).name} for step in steps]
    names.record.write_text(json.dumps({"checkpoints": entries}))
    policy = settings(checkpoints_per_character=1)
    busy = plan_retention(layout, policy, Needs(characters={character: "lora_evaluation is to be made"}))
    assert character not in {removal.partition for removal in busy.removals}
    assert [kept.why for kept in busy.kept if kept.partition == character] == ["lora_evaluation is to be made"]
    assert not apply_retention(plan_retention(layout, policy, Needs()), layout).problems
    left = [checkpoint.step for checkpoint in finished_checkpoints(names)]
    assert left == [2000, 2500]  # chosen, and last
    record = json.loads(names.record.read_text())
    assert [entry["step"] for entry in record["checkpoints"]] == left
    assert {entry["step"] for entry in record["removed_checkpoints"]} == {500, 1000, 1500}
