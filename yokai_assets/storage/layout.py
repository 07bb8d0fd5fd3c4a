"""The tree under the data root: one method per kind of thing, nothing else.

The tree is that of the pipeline this platform replaces (`training_data/<series>/cluster_000`, ...), with records
and layers beside it. Every path is a `UPath`: on a local root it is an ordinary `pathlib.Path`. Names of episodes and
characters, wherever they come from (a partition key typed into the UI, say), never lead out of the tree.
"""

from dataclasses import dataclass

from upath import UPath

from yokai_assets.settings import Settings
from yokai_assets.storage.files import path_below


def plain_name(name: str) -> str:
    """Return a name that is to be a file's or a folder's, if it is one and no path.

    Raises:
        ValueError: It is empty, has separators or NUL in it, or leads upwards.
    """
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        raise ValueError(f"{name!r} cannot be the name of a file. Give one without slashes that does not lead upwards.")
    return name


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one series under one data root.

    Methods that take the name of an episode, a character or an asset raise `ValueError` where it is a path.
    """

    root: UPath
    series: str

    def __post_init__(self) -> None:
        """Refuse a series whose name is a path."""
        plain_name(self.series)

    @classmethod
    def of(cls, settings: Settings) -> "Layout":
        """Return the layout that the settings ask for."""
        return cls(UPath(settings.data_root), settings.series)

    def relative(self, path: UPath) -> str:
        """Return `path` relative to the data root, with `/` separators, as tables hold it."""
        return path.relative_to(self.root).as_posix()

    def absolute(self, relative: str) -> UPath:
        """Return the path that a table's relative path means."""
        return path_below(self.root, relative)

    @property
    def tables(self) -> UPath:
        """Parquet records: `tables/<asset>.parquet` or `tables/<asset>/<partition>.parquet`."""
        return self.root / "tables" / self.series

    def table(self, asset: str, partition: str | None = None) -> UPath:
        """Return the Parquet file of an asset, or of one of its partitions."""
        folder, name = (self.tables, asset) if partition is None else (self.tables / plain_name(asset), partition)
        return path_below(folder, f"{plain_name(name)}.parquet")

    @property
    def registry(self) -> UPath:
        """Versions of the character registry."""
        return self.root / "registry" / self.series

    @property
    def database(self) -> UPath:
        """The published DuckDB file."""
        return self.root / "yokai.duckdb"

    @property
    def layers(self) -> UPath:
        """Cut-outs and clean plates of all episodes."""
        return self.root / "layers" / self.series

    def character_layers(self, episode: str) -> UPath:
        """Cut-outs of an episode."""
        return path_below(self.layers, plain_name(episode)) / "characters"

    def background_layers(self, episode: str) -> UPath:
        """Clean plates of an episode."""
        return path_below(self.layers, plain_name(episode)) / "backgrounds"

    @property
    def retention(self) -> UPath:
        """Which episodes' layers were removed to save space: `retention/<series>/<episode>.json`."""
        return self.root / "retention" / self.series

    @property
    def regularisation(self) -> UPath:
        """Pictures of scenery and of everybody, for trainers that want a regularisation set."""
        return self.root / "regularisation" / self.series

    def training_data(self, character_id: str) -> UPath:
        """Training images and captions of a character."""
        return path_below(self.root / "training_data" / self.series, plain_name(character_id))

    def lora(self, character_id: str) -> UPath:
        """Checkpoints and the published LoRA of a character."""
        return path_below(self.root / "models" / "lora" / self.series, plain_name(character_id))

    def training_state(self, character_id: str) -> UPath:
        """Optimizer state of an unfinished training."""
        return path_below(self.root / "work" / "training" / self.series, plain_name(character_id))

    def overrides(self, character_id: str) -> UPath:
        """What people changed by hand of a character's captions and images; no run deletes anything there."""
        return path_below(self.root / "overrides" / self.series, plain_name(character_id))

    @property
    def cache(self) -> UPath:
        """Content-keyed caches: latents, text embeddings, mattes."""
        return self.root / "cache"

    @property
    def outputs(self) -> UPath:
        """What people look at."""
        return self.root / "outputs" / self.series

    def ai_analysis(self, character_id: str) -> UPath:
        """Profile of a character."""
        return path_below(self.outputs, plain_name(character_id)) / "ai_analysis"

    def lora_tests(self, character_id: str) -> UPath:
        """Test pictures and judgement of a character's LoRA."""
        return path_below(self.outputs, plain_name(character_id)) / "lora_tests"

    @property
    def pipeline(self) -> UPath:
        """`pipeline_results.json`, `failures.jsonl`, logs."""
        return self.outputs / "pipeline"

    @property
    def gallery(self) -> UPath:
        """The static HTML report."""
        return self.outputs / "gallery"
