"""The report: pages that open from a disk, links that lead somewhere, nothing run that was only named."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.gallery import (
    FailureRecord,
    GalleryData,
    StageTime,
    append_failures,
    build_gallery,
    load_gallery_data,
    pipeline_results_schema,
    write_pipeline_results,
)
from yokai_assets.gallery.character_map import _to_grid, place_characters
from yokai_assets.gallery.charts import interval_rows, line_chart
from yokai_assets.registry import RegistryStore
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.sizes import stage_bytes
from yokai_assets_tests.gallery.sample import AT, SampleSeries
from yokai_assets_tests.previews.test_stages import with_broken_chunk

SCRIPT = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Links, pictures, ids and scripts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.scripts: list[str | None] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [str(values["id"])] if "id" in values else []
        self.links += [str(values[key]) for key in ("href", "src") if key in values]
        if tag == "img":
            self.images.append(values)
        if tag == "script":
            self.scripts.append(values.get("src"))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A series of six characters: two published, one with a training set only, one too small, one retired."""
    sample = SampleSeries(
        tmp_path_factory.mktemp("series"), 6, episode_count=2, side_px=40, exemplar_count=2, image_count=4
    )
    layout = sample.write()
    hostile = FailureRecord(at=AT, step="lora_model", partition="cluster_003", reason=f"out of memory {SCRIPT}")
    append_failures(layout, [hostile])
    return layout


@pytest.fixture(scope="module")
def data(layout: Layout) -> GalleryData:
    times = {"lora_model": StageTime(9000.0, 5400.0, 3, AT), "gallery": StageTime(2.0, 0.0, 1, AT)}
    return load_gallery_data(layout, at=AT, times=times)


@pytest.fixture(scope="module")
def gallery(layout: Layout, data: GalleryData) -> Path:
    return Path(str(build_gallery(layout, data))).parent


def pages_of(gallery: Path) -> list[Path]:
    return [gallery / "index.html", *sorted((gallery / "characters").glob("*.html"))]


def test_every_character_has_a_page_and_every_link_leads_somewhere(gallery: Path):
    """Protects the report against dead links, between pages, to pictures and to files of the data root."""
    pages = pages_of(gallery)
    assert [page.stem for page in pages[1:]] == [f"cluster_{i:03d}" for i in range(6)]
    for path in pages:
        page = Page(path)
        assert page.links
        for link in page.links:
            target = urlparse(link)
            if target.scheme == "data":
                continue
            assert not target.scheme and not target.netloc, link
            if target.path:
                assert (path.parent / unquote(target.path)).exists(), f"{path.name}: {link}"
            elif target.fragment:
                assert target.fragment in page.ids, f"{path.name}: {link}"


def test_pictures_are_described_sized_and_lazy(gallery: Path):
    """Protects readers without sight, and pages of many pictures."""
    images = [image for path in pages_of(gallery) for image in Page(path).images]
    assert len(images) > 40
    assert all(image["alt"] and image["width"] and image["height"] for image in images)
    assert sum(image.get("loading") == "lazy" for image in images) > len(images) * 0.7
    for file in (gallery / "images").rglob("*.webp"):
        with Image.open(file) as image:
            assert image.format == "WEBP"


def test_names_and_captions_are_shown_not_run(gallery: Path):
    """Protects whoever opens the report from text in file names, captions and error messages."""
    index = (gallery / "index.html").read_text()
    assert SCRIPT not in index
    assert "out of memory &lt;script&gt;alert(1)&lt;/script&gt;" in index
    for path in pages_of(gallery):
        sources = [source for source in Page(path).scripts if source]
        assert [Path(source).name for source in sources] == ["gallery.js"]


def test_each_status_is_told_with_its_reason(data: GalleryData, gallery: Path):
    """Protects the answer to "what became of character N?"."""
    assert [entry.status for entry in data.characters] == [
        "published", "published", "published", "failed", "too_small", "retired",
    ]  # fmt: skip
    small = (gallery / "characters" / "cluster_004.html").read_text()
    assert "too few images to train (7 found)" in small
    published = (gallery / "characters" / "cluster_000.html").read_text()
    for words in ("has the highest score", "held-out images", "cosine 0.810", "born", "model card"):
        assert words in published
    assert re.search(r'<polyline class="line line-0" points="[\d.,\- ]+"', published)


def test_the_numbers_of_the_page_are_those_of_the_tables(gallery: Path, data: GalleryData):
    """Protects the overview: episodes, frames, unique frames."""
    row = data.episodes.row(0, named=True)
    assert (row["frame_count"], row["unique_count"], row["unreadable_count"], row["blank_count"]) == (24, 11, 1, 1)
    index = (gallery / "index.html").read_text()
    assert "<strong>48</strong><span>22 unique (46%)</span>" in index
    assert sum(data.storage_bytes.values()) > 10_000


def test_the_way_covered_is_the_median_of_all_loras(tmp_path: Path):
    """Protects the number at the top: with two LoRAs it is not that of the better one."""
    layout = SampleSeries(tmp_path, 2, episode_count=1, side_px=40, exemplar_count=1, image_count=3).write()
    data = load_gallery_data(layout)
    page = " ".join(build_gallery(layout, data).read_text().split())
    rows = [row for entry in data.characters if entry.evaluation for row in entry.evaluation.checkpoints]
    shares = [row.covered.mean for row in rows if row.covered and row.step == 2000]  # the chosen one of each
    assert len(shares) == 2 and shares[0] != shares[1]
    assert re.search(rf"of the way to real.{{0,80}}{np.mean(shares):.0%}", page)


def test_results_conform_to_their_schema_and_count_rightly(layout: Layout, data: GalleryData):
    """Protects programs that read `pipeline_results.json`."""
    import jsonschema

    path = write_pipeline_results(layout, data)
    results = json.loads(path.read_text())
    schema = json.loads((path.parent / "pipeline_results.schema.json").read_text())
    jsonschema.validate(results, schema)
    assert schema == pipeline_results_schema()
    counts = {key: results[key] for key in ("processed", "pending", "skipped", "failed", "retired")}
    assert counts == {"processed": 3, "pending": 0, "skipped": 1, "failed": 1, "retired": 1}
    first = results["characters"][0]
    assert first["lora"] == "models/lora/yokai-watch/cluster_000/cluster_000.safetensors"
    assert (layout.root / first["lora"]).exists() and (layout.root / first["model_card"]).exists()
    assert first["scores"]["suggested_weight"] == 0.8 and first["scores"]["covered_share_low"] is not None
    assert results["stages"]["lora_model"] | {"bytes": 0} == {
        "scope": "characters", "partitions": 3, "rows": 0, "newest_at": "2026-03-01T12:00:00Z", "bytes": 0,
        "seconds": 9000.0, "gpu_seconds": 5400.0,
    }  # fmt: skip
    assert results["stages"]["frames"]["seconds"] is None, "not recorded is not nothing"
    assert [row["character_id"] for row in results["taken_for_others"]] == ["cluster_002"]
    assert first["scores"]["step"] == 2000 and first["scores"]["resemblance_low"] < first["scores"]["resemblance"]
    assert results["characters"][4]["reason"] == "too few images to train (7 found)"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**results, "processed": "three"}, schema)


def test_the_schema_that_ships_is_that_of_the_code():
    """Protects whoever reads the schema file: `python -m yokai_assets.gallery.results` writes it anew."""
    shipped = files("yokai_assets.gallery").joinpath("pipeline_results.schema.json").read_text("utf-8")
    assert json.loads(shipped) == pipeline_results_schema()


def test_hours_and_bytes_are_told_by_stage(layout: Layout, data: GalleryData, gallery: Path):
    """Protects the answers to "what does it cost?" and "what fills my disk?"."""
    stages = {stage.name: stage for stage in data.stages}
    images = sum(file.stat().st_size for file in Path(str(layout.root / "training_data")).rglob("*") if file.is_file())
    table = sum(f.stat().st_size for f in Path(str(layout.tables / "training_dataset")).iterdir())
    assert stages["training_dataset"].size_bytes == images + table
    for name in ("character_layers", "background_layers", "character_profile", "lora_evaluation", "lora_model",
                 "published_lora", "character_registry"):  # fmt: skip
        assert stages[name].size_bytes > 0, name
    row = re.search(r'<th scope="row"><code>lora_model</code>.*?</tr>', (gallery / "index.html").read_text(), re.S)
    assert row and ">2.5<" in row[0] and ">1.5<" in row[0] and "3 characters" in row[0]
    assert "<strong>2.5 h</strong><span>1.5 h of it on a GPU</span>" in (gallery / "index.html").read_text()


def test_bytes_on_an_object_store_are_counted_too(layout: Layout):
    """Protects the same numbers where there are no folders."""
    memory = UPath("memory://sizes")
    for file in Path(str(layout.root)).rglob("*"):
        if file.is_file():
            (memory / file.relative_to(str(layout.root)).as_posix()).write_bytes(file.read_bytes())
    there, here = stage_bytes(Layout(memory, layout.series)), stage_bytes(layout)
    assert {name: size for name, size in there.items() if name != "gallery"} == {
        name: size for name, size in here.items() if name != "gallery"
    }


def test_a_character_s_page_tells_what_was_measured_and_decided(gallery: Path):
    """Protects the page against leaving out what an evaluation found, or what a person decided."""
    page = (gallery / "characters" / "cluster_000.html").read_text()
    for words in (
        "LoRA of cluster_005", "this LoRA, step 2,000", "Suggested weight: 0.8", "Weight 0.8 has the best score",
        "without the trigger:", "Bleeding", "Prompt lost", "Held-out loss", "Backgrounds that it was cut from",
        "Among the other LoRAs", "cluster_005 merged into cluster_000",
    ):  # fmt: skip
        assert words in page, words
    assert page.count('<tr class="chosen">') == 3, "its row among anchors, weights and checkpoints"
    merged = (gallery / "characters" / "cluster_005.html").read_text()
    assert "cluster_005 merged into cluster_000" in merged, "the other one of a merge is told, too"


def test_what_is_not_there_yet_is_said(tmp_path: Path):
    """Protects pages of characters on their way: no training, no evaluation, an evaluation of an earlier version."""
    sample = SampleSeries(tmp_path, 3, episode_count=1, side_px=40, exemplar_count=1, image_count=4)
    layout = sample.write()
    for name in ("cluster_000", "cluster_001", "cluster_002"):
        (layout.lora(name) / f"{name}.safetensors").unlink()
    record = layout.lora_tests("cluster_000") / "evaluation.json"
    old = json.loads(record.read_text())
    del old["anchors"], old["weights"]
    record.write_text(json.dumps({**old, "schema_version": 1}))
    (layout.lora_tests("cluster_001") / "evaluation.json").unlink()
    (layout.lora_tests("cluster_002") / "evaluation.json").unlink()
    (layout.lora("cluster_002") / "cluster_002-training.json").unlink()
    layout.table("training_dataset", "cluster_002").unlink()
    layout.table("lora_comparison").unlink()
    data = load_gallery_data(layout)
    folder = Path(str(build_gallery(layout, data))).parent
    assert [entry.status for entry in data.characters] == ["trained", "trained", "waiting"]
    pages = [(folder / "characters" / f"cluster_00{index}.html").read_text() for index in range(3)]
    assert "written by another version of yokai_assets (schema 1, this one reads 2)" in pages[0]
    assert "no evaluation that can be shown" in pages[0] and "no evaluation that can be shown" in pages[1]
    assert "No LoRA has been trained yet" in pages[2] and "No training set yet" in pages[2]
    assert not (folder / "comparison.html").exists()


def test_an_evaluation_without_its_chosen_row_is_a_problem_not_an_error(tmp_path: Path):
    """Protects the report from a record that conforms to its schema and still lacks what it speaks of."""
    layout = SampleSeries(tmp_path, 1, episode_count=1, side_px=40, exemplar_count=1, image_count=3).write()
    record = layout.lora_tests("cluster_000") / "evaluation.json"
    values = json.loads(record.read_text())
    record.write_text(json.dumps({**values, "checkpoints": values["checkpoints"][:1]}))
    data = load_gallery_data(layout)
    build_gallery(layout, data)
    assert "lacks the rows" in data.characters[0].problems[0]


def test_a_series_of_one_character_has_a_report(tmp_path: Path):
    """Protects the smallest series: no map, nobody to compare with."""
    layout = SampleSeries(tmp_path, 1, episode_count=1, side_px=40, exemplar_count=1, image_count=3).write()
    index = Path(str(build_gallery(layout, load_gallery_data(layout)))).read_text()
    assert "one judged LoRA so far" in index and 'id="map"' not in index


def test_an_empty_data_root_gives_pages_that_say_so(tmp_path: Path):
    """Protects the first look before anything has run."""
    layout = Layout(UPath(tmp_path), "empty")
    data = load_gallery_data(layout)
    index = Path(str(build_gallery(layout, data))).read_text()
    assert "No characters yet" in index and "No episode has been read yet" in index
    results = json.loads(write_pipeline_results(layout, data).read_text())
    assert results["processed"] == 0 and results["characters"] == []


def test_damaged_files_are_named_and_the_rest_is_shown(tmp_path: Path):
    """Protects the report from one bad file of each kind."""
    sample = SampleSeries(tmp_path, 2, episode_count=1, side_px=40, exemplar_count=1, image_count=4)
    layout = sample.write()
    damaged = [
        layout.lora_tests("cluster_000") / "evaluation.json",
        layout.lora("cluster_000") / "cluster_000-training.json",
        layout.ai_analysis("cluster_000") / "profile.json",
        layout.table("training_dataset", "cluster_000"),
        layout.table("frames", "s01e01"),
    ]
    for path in damaged:
        path.write_bytes(b"{ torn")
    data = load_gallery_data(layout)
    index = Path(str(build_gallery(layout, data))).read_text()
    for path in damaged:
        assert path.name in index
    assert len(data.characters) == 2 and data.characters[1].problems == []


def test_a_damaged_picture_is_left_out_of_its_page(tmp_path: Path):
    """Protects the report from a PNG whose chunks are broken: Pillow raises a SyntaxError there."""
    sample = SampleSeries(tmp_path, 2, episode_count=1, side_px=40, exemplar_count=1, image_count=3)
    layout = sample.write()
    picture = Path(str(layout.training_data("cluster_000") / "0001.png"))
    picture.write_bytes(with_broken_chunk())
    page = Path(str(build_gallery(layout, load_gallery_data(layout)))).parent / "characters" / "cluster_000.html"
    shown = [image["alt"] for image in Page(page).images if image["alt"] and "of cluster_000" in image["alt"]]
    assert len(shown) >= 2


def test_a_failed_build_leaves_the_old_report(layout: Layout, gallery: Path, data: GalleryData):
    """Protects a reader: the folder is swapped as one."""
    before = sorted(path.name for path in gallery.rglob("*"))
    broken = GalleryData(data.series, data.read_at, data.stages, data.episodes, data.characters)
    broken.map_points = {"cluster_unknown": (0.0, 0.0)}
    with pytest.raises(Exception, match="cluster_unknown"):
        build_gallery(layout, broken)
    assert sorted(path.name for path in gallery.rglob("*")) == before
    assert not [path for path in gallery.parent.iterdir() if "partial" in path.name]


def test_a_character_with_too_few_images_is_too_small_not_failed(tmp_path: Path):
    """Protects the count of failures: that a character is rare is a fact, told with its numbers."""
    layout = SampleSeries(tmp_path, 4, episode_count=1, side_px=40, exemplar_count=1, image_count=3).write()
    few = FailureRecord(
        at=AT, step="dataset_is_large_enough", asset="training_dataset", partition="cluster_001",
        reason="9 training images; expected at least 20", is_check=True,
    )  # fmt: skip
    retired = FailureRecord(at=AT, step="lora_model", partition="cluster_003", reason="out of memory")
    append_failures(layout, [few, retired])
    data = load_gallery_data(layout, is_over=lambda _: False)
    entry = data.characters[1]
    assert (entry.status, entry.failures) == ("too_small", [])
    assert "9 training images" in entry.status_text
    assert data.failures == [], "nobody will mend what failed for a retired character"
    results = json.loads(write_pipeline_results(layout, data).read_text())
    assert (results["failed"], results["skipped"], results["failures"]) == (0, 2, [])


def test_what_is_kept_of_a_retired_character_is_told(tmp_path: Path):
    """Protects the truth about characters that went: the LoRA is there, the character is not."""
    layout = SampleSeries(tmp_path, 4, episode_count=1, side_px=40, exemplar_count=1, image_count=3).write()
    lora = layout.lora("cluster_003") / "cluster_003.safetensors"
    lora.parent.mkdir(parents=True, exist_ok=True)
    lora.write_bytes(b"")
    data = load_gallery_data(layout)
    entry = data.characters[3]
    assert entry.status == "retired" and "published before is still there" in entry.status_text
    build_gallery(layout, data)


def test_few_characters_stand_in_a_row(layout: Layout):
    """Protects the map of a small series, which no projection can be made of."""
    registry = RegistryStore(layout.registry).load()
    assert registry is not None
    three = place_characters(registry.characters.head(3))
    assert sorted(three.values()) == [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)]
    assert place_characters(registry.characters.head(1)) == {}
    assert len(place_characters(registry.characters)) == 6


def test_map_cells_are_distinct_and_keep_neighbours():
    """Protects the map: no picture hides another, and points near each other stay near."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(centre, 0.3, (20, 2)) for centre in ((0, 0), (8, 0), (4, 7))])
    cells = _to_grid(points)
    assert len({tuple(cell) for cell in cells.tolist()}) == 60
    groups = [cells[start : start + 20] for start in (0, 20, 40)]
    centres = [group.mean(axis=0) for group in groups]
    spread = np.mean(
        [np.linalg.norm(group - centre, axis=1).mean() for group, centre in zip(groups, centres, strict=True)]
    )
    apart = min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert apart > 1.5 * spread


def test_charts_stay_inside_their_frame_and_survive_spikes_and_nan():
    """Protects loss curves: a spike does not flatten the rest, NaN is left out, nothing gives no chart."""
    losses = [0.2 - index * 1e-4 for index in range(1000)]
    losses[500], losses[600] = float("nan"), 50.0
    chart = line_chart({"training": (range(1000), losses)})
    assert chart is not None
    points = np.array([pair.split(",") for pair in chart.lines[0].points.split()], float)
    assert len(points) <= 300
    assert points[:, 0].min() >= chart.left and points[:, 0].max() <= chart.right
    assert points[:, 1].min() >= chart.top - 0.1 and points[:, 1].max() <= chart.bottom + 0.1
    assert np.ptp(points[:200, 1]) > 5
    assert line_chart({"training": ([], [])}) is None
    assert line_chart({"training": ([1.0], [0.5])}) is not None
    rows = interval_rows([("a", 0.1, 0.2, 0.3, "other"), ("b", 0.8, 0.9, 1.0, "real")])
    assert 0 < rows[0].low < rows[0].mean < rows[0].high < rows[1].low < rows[1].high < 100
