from pathlib import Path

import pytest
from upath import UPath

from yokai_assets.registry import Registry, RegistryError, RegistryStore
from yokai_assets.registry import store as store_module
from yokai_assets.storage.database import publish
from yokai_assets_tests.registry.series import ids, update

A, B = ids(0, 40), ids(100, 30)


@pytest.fixture
def store(tmp_path: Path) -> RegistryStore:
    return RegistryStore(UPath(tmp_path / "registry"))


def assert_same(one: Registry | None, other: Registry | None) -> None:
    assert one is not None and other is not None
    assert one.version == other.version and one.content_hash == other.content_hash
    assert one.characters.equals(other.characters) and one.members.equals(other.members)
    assert one.events.equals(other.events)


def test_what_is_saved_is_loaded(store: RegistryStore) -> None:
    """A registry survives the disk whole, hash included; before the first there is none."""
    assert store.load() is None
    first = update(None, [(0, A), (1, B)])
    store.save(first)
    assert_same(store.load(), first)
    second = update(store.load(), [(0, A)], noise=B)
    store.save(second)
    assert_same(store.load(), second)
    now, before = store.load_last_two()
    assert_same(now, second)
    assert_same(before, first)
    assert (store.folder / "CURRENT").read_text().strip() == "v000002"


def test_an_update_of_a_loaded_registry_is_the_same(store: RegistryStore) -> None:
    """Nothing is lost on disk that would make the next update see a change."""
    store.save(update(None, [(0, A), (1, B)]))
    loaded = store.load()
    assert update(loaded, [(0, A), (1, B)]) is loaded


@pytest.mark.parametrize("written", [1, 2, 3])
def test_a_crash_leaves_the_old_version(store: RegistryStore, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """Until the pointer moves, the old registry is the registry; the next save takes the number again."""
    first = update(None, [(0, A), (1, B)])
    store.save(first)
    second = update(first, [(0, A)], noise=B)
    calls = 0

    def crash_after(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls > written:
            raise KeyboardInterrupt
        return original(*arguments)  # pyright: ignore[reportArgumentType]

    original = store_module.write_table
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_table", crash_after)
        if written == 3:
            patch.setattr(store_module, "write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.save(second)
    assert_same(store.load(), first)
    now, before = store.load_last_two()
    assert_same(now, first)
    assert before is None
    store.save(second)
    assert_same(store.load(), second)


def test_ten_versions_are_kept(store: RegistryStore) -> None:
    """History does not fill the disk, and the newest is never removed."""
    registry = None
    for count in range(10, 24):
        registry = update(registry, [(0, ids(0, count))])
        store.save(registry)
    kept = sorted(entry.name for entry in store.folder.iterdir() if entry.name.startswith("v"))
    assert kept == [f"v{version:06d}" for version in range(5, 15)]
    assert_same(store.load(), registry)


def test_a_damaged_version_names_the_way_back(store: RegistryStore) -> None:
    """Damage is told with the file and the version to go back to, and going back works."""
    first = update(None, [(0, A), (1, B)])
    store.save(first)
    store.save(update(first, [(0, A)], noise=B))
    damaged = store.folder / "v000002" / "members.parquet"
    damaged.write_bytes(b"damaged")
    with pytest.raises(RegistryError, match=r"members\.parquet.*v000001.*CURRENT"):
        store.load()
    (store.folder / "CURRENT").write_text("v000001\n")
    assert_same(store.load(), first)
    (store.folder / "CURRENT").write_text("nonsense")
    with pytest.raises(RegistryError, match="nonsense"):
        store.load()


def test_without_a_version_it_is_said_what_makes_one(store: RegistryStore) -> None:
    """A check that runs before the asset says so."""
    with pytest.raises(RegistryError, match="character_registry"):
        store.load_last_two()
    assert store.table_files() == {"characters": {}, "members": {}, "events": {}, "decisions": {}}


def test_the_registry_is_published(store: RegistryStore, tmp_path: Path) -> None:
    """The catalog publishes the newest version's tables; a new version replaces the rows."""
    first = update(None, [(0, A), (1, B)])
    store.save(first)
    database = UPath(tmp_path / "yokai.duckdb")
    assert set(publish(database, store.table_files()).changed) == {"characters", "members", "events", "decisions"}
    store.save(update(first, [(0, A)], noise=B))
    assert set(publish(database, store.table_files()).changed) == {"characters", "members", "events", "decisions"}
    assert publish(database, store.table_files()).changed == ()
