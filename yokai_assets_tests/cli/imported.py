"""A small imported series for tests of commands, and copies of it to change."""

import shutil
from pathlib import Path

from click.testing import CliRunner

from yokai_assets.cli.main import main
from yokai_assets_tests.cli.test_importing import write_tree


def import_series(folder: Path, *more_settings: str) -> Path:
    """Import two characters of twelve and eight images into a folder; return its settings file."""
    config = folder / "yokai.toml"
    settings = [
        'profile = "demo"', 'series = "s"', f'frames_source = "{folder}"', f'data_root = "{folder / "data"}"',
        'device = "cpu"', "[clustering]", "min_cluster_size = 6", *more_settings,
    ]  # fmt: skip
    config.write_text("\n".join(settings) + "\n", encoding="utf-8")
    write_tree(folder / "tree", 8)
    assert CliRunner().invoke(main, ["import-clusters", str(folder / "tree"), "--config", str(config)]).exit_code == 0
    return config


def copy_of(config: Path, folder: Path) -> Path:
    """Copy an imported series; return the settings file of the copy."""
    data = config.parent / "data"
    shutil.copytree(data, folder / "data")
    text = config.read_text(encoding="utf-8").replace(str(data), str(folder / "data"))
    (folder / "yokai.toml").write_text(text, encoding="utf-8")
    return folder / "yokai.toml"
