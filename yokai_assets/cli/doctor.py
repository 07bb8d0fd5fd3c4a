"""`yokai doctor`: is everything there that a run needs, and if not, how to get it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from upath import UPath

from yokai_assets.settings import Settings, load_settings
from yokai_assets.storage.files import is_local


def examine(config_file: Path | None) -> bool:
    """Print one line per examination. Returns whether all are well."""
    settings = load_settings(config_file)
    console = Console(highlight=False)
    all_well = True
    for name, look in _examinations(settings):
        try:
            console.print(f"[green]ok[/]      {name}: {look()}")
        except Exception as error:  # whatever is wrong is what the doctor is asked for
            all_well = False
            console.print(f"[red]missing[/] {name}: {str(error).strip()}", soft_wrap=True)
    return all_well


def _examinations(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    from yokai_assets.devices import resolve_device

    device = "cpu"

    def look_at_device() -> str:
        nonlocal device
        device = resolve_device(settings.device)
        return device

    yield "device", look_at_device
    yield "frames", lambda: _frames(settings)
    yield "disk", lambda: _disk(settings)
    yield "matte", lambda: _matte(settings, device)
    yield "image-text model", lambda: _clip(settings, device)
    yield "base model", lambda: _base(settings, device)
    yield "optimizer", lambda: _optimizer(settings)


def _frames(settings: Settings) -> str:
    from yokai_assets.frames.episodes import discover_episodes

    source = UPath(settings.frames_source)
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such folder. Set `frames_source`.")
    episodes, problems = discover_episodes(source)
    if not episodes:
        raise FileNotFoundError(f"{source}: no episode found: neither folders of images nor videos.")
    return f"{len(episodes)} episodes in {source}" + (f", {len(problems)} problems" if problems else "")


def _disk(settings: Settings) -> str:
    root = UPath(settings.data_root)
    if not is_local(root):
        return f"{root} is remote"
    there = Path(settings.data_root)
    while not there.exists():
        there = there.parent
    free_gb = shutil.disk_usage(there).free / 1e9
    if free_gb < 5:
        raise OSError(
            f"only {free_gb:.1f} GB free at {there}; a series wants tens of GB. Free some, or move `data_root`."
        )
    return f"{free_gb:.0f} GB free at {there}"


def _matte(settings: Settings, device: str) -> str:
    from yokai_assets.segmentation.matte import open_matte

    return f"{settings.segmentation.model} ({open_matte(settings.segmentation, device).fingerprint[:12]})"


def _clip(settings: Settings, device: str) -> str:
    from yokai_assets.embedding.model import open_image_text_model

    model = open_image_text_model(settings.embedding, device)
    return f"{settings.embedding.model}, {model.dimension} dimensions ({model.fingerprint[:12]})"


def _base(settings: Settings, device: str) -> str:
    from yokai_assets.settings.presets import doubts, resolved
    from yokai_assets.training.base_model import open_base_model

    base = open_base_model(settings.training.base_model, device)
    image_count = settings.dataset.max_images
    hints = doubts(resolved(settings.training, base.family, base.native_px, image_count), base.native_px)
    if hints:
        raise ValueError("; ".join(f"{setting}: {advice}" for setting, advice in hints))
    return f"{settings.training.base_model}, {base.family}, {base.native_px} px ({base.fingerprint[:12]})"


def _optimizer(settings: Settings) -> str:
    from yokai_assets.training.optimizers import require_optimizer

    require_optimizer(settings.training)
    return settings.training.optimizer
