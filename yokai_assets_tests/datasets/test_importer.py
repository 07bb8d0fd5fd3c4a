"""Importing a tree of cluster folders: every image arrives, labelled as its folder, and odd files are named."""

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.datasets import import_cluster_tree
from yokai_assets.datasets.importer import ImportTreeError
from yokai_assets.segmentation.layers import load_cutout
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import CLUSTERS, INSTANCES


def picture(seed: int, mode: str = "RGBA") -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    made = Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC).convert(mode)
    if mode == "RGBA":
        made.paste((0, 0, 0, 0), (0, 0, 10, 40))
    return made


@pytest.fixture
def tree(tmp_path) -> UPath:
    for label, count in ((0, 3), (7, 2)):
        place = tmp_path / "tree" / f"cluster_{label:03d}"
        place.mkdir(parents=True)
        for number in range(count):
            picture(10 * label + number).save(place / f"{number}.png")
            (place / f"{number}.txt").write_text("a caption")
    return UPath(tmp_path / "tree")


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(UPath(tmp_path / "data"), "tiny")


def test_images_arrive_with_their_labels_and_pixels(tree: UPath, layout: Layout) -> None:
    """Protects: no image is lost, put elsewhere or changed."""
    result = import_cluster_tree(tree, layout)
    assert result.instances.schema == INSTANCES.schema
    assert result.clusters.schema == CLUSTERS.schema
    assert result.clusters["cluster_label"].to_list() == [0, 0, 0, 7, 7]
    assert result.folders == {0: "cluster_000", 7: "cluster_007"}
    assert result.instances["instance_id"].to_list() == result.clusters["instance_id"].to_list()
    first = np.asarray(load_cutout(layout, result.instances["cutout"][0]))
    assert (first == np.asarray(picture(0))).all()
    assert result.instances["area_share"][0] == pytest.approx(38 / 48)
    assert (result.instances["x1"][0], result.instances["y1"][0]) == (48, 40)


def test_opaque_images_count_as_all_character(tree: UPath, layout: Layout) -> None:
    """Protects: trees without transparency can be trained on."""
    picture(1, "RGB").save(str(tree / "cluster_000" / "0.png"))
    result = import_cluster_tree(tree, layout)
    assert result.instances["area_share"][0] == 1.0
    assert load_cutout(layout, result.instances["cutout"][0]).getchannel("A").getextrema() == (255, 255)


def test_damaged_files_are_named_and_the_rest_goes_on(tree: UPath, layout: Layout) -> None:
    """Protects: one bad file does not stop the import."""
    (tree / "cluster_000" / "1.png").write_bytes(b"no picture")
    Image.new("RGBA", (8, 8)).save(str(tree / "cluster_007" / "1.png"))
    result = import_cluster_tree(tree, layout)
    assert result.instances.height == 3
    assert ["1.png" in problem for problem in result.problems] == [True, True]


def test_like_neighbours_are_one_shot(tree: UPath, layout: Layout) -> None:
    """Protects: held-out images are not the neighbours of training images."""
    alike = picture(0)
    alike.putpixel((30, 30), (0, 0, 0, 255))
    alike.save(str(tree / "cluster_000" / "1.png"))
    shots = import_cluster_tree(tree, layout).instances["shot"].to_list()
    assert shots[0] == shots[1] != shots[2]
    assert shots[3] not in shots[:3]


def test_folders_without_numbers_are_numbered(tree: UPath, layout: Layout) -> None:
    """Protects: trees named by hand are taken, too."""
    (tree / "cluster_000").rename(tree / "Kitaro")
    assert import_cluster_tree(tree, layout).folders == {0: "cluster_007", 1: "Kitaro"}


def test_importing_again_changes_nothing(tree: UPath, layout: Layout) -> None:
    """Protects: cut-outs that a reader holds stay as they are."""
    first = import_cluster_tree(tree, layout)
    before = {p: p.stat().st_mtime_ns for p in layout.character_layers("imported").iterdir()}
    assert import_cluster_tree(tree, layout).instances.equals(first.instances)
    assert {p: p.stat().st_mtime_ns for p in layout.character_layers("imported").iterdir()} == before


def test_added_images_move_no_ids(tree: UPath, layout: Layout) -> None:
    """Protects: the registry knows characters by their instances; shifted ids would exchange characters."""
    before = import_cluster_tree(tree, layout).instances.select("cutout_sha256", "instance_id")
    for number in range(4):
        picture(50 + number).save(str(tree / "cluster_000" / f"0{number}.png"))
    picture(50).save(str(tree / "cluster_007" / "again.png"))
    after = import_cluster_tree(tree, layout).instances.select("cutout_sha256", "instance_id")
    assert after.height == 10
    assert after["instance_id"].n_unique() == 10
    assert before.join(after, on=["cutout_sha256", "instance_id"]).height == 5


def test_photographs_are_upright_and_deep_grey_is_not_clipped(tree: UPath, layout: Layout) -> None:
    """Protects: pictures from other tools look as they do there."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1, "RGB").save(str(tree / "cluster_007" / "0.jpg"), exif=exif)
    Image.fromarray(np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)).save(
        str(tree / "cluster_007" / "2.png")
    )
    sizes = import_cluster_tree(tree, layout).instances.select("x1", "y1", "luma_mean").rows()
    assert sizes[3][:2] == (40, 48)
    assert sizes[6][2] == pytest.approx(127, abs=2)


@pytest.mark.parametrize("name", ["tree/cluster_000", "nowhere"])
def test_nothing_to_import_is_said(tree: UPath, layout: Layout, name: str) -> None:
    """Protects: the wrong level of the tree is noticed."""
    with pytest.raises(ImportTreeError, match="cluster_000"):
        import_cluster_tree(tree.parent / name, layout)
