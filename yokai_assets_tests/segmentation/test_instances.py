"""Instances: what of a foreground probability becomes a character, and how it is measured."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from yokai_assets.segmentation.instances import Instance, find_instances
from yokai_assets.settings.model import SegmentationSettings
from yokai_assets_tests.frames.pictures import scene

SIZE_PX = (640, 360)
SETTINGS = SegmentationSettings.model_validate({})


def canvas(draw_on, value: float = 0.95, size_px: tuple[int, int] = SIZE_PX) -> np.ndarray:
    """A probability of 0.02 with shapes of `value`."""
    image = Image.new("L", size_px)
    draw_on(ImageDraw.Draw(image))
    return np.where(np.asarray(image) > 0, value, 0.02).astype(np.float32)


def find(probability: np.ndarray, **more: object):
    image = scene(1, probability.shape[1], probability.shape[0])
    return find_instances(image, probability, SegmentationSettings.model_validate(more))


def test_an_empty_frame_has_no_instance() -> None:
    """Protects: faint output is no character, however it is spread."""
    assert find(np.full((360, 640), 0.45, np.float32)) == []


def test_two_characters_are_two_instances_largest_first() -> None:
    """Protects: separation, order, boxes that fit, and area."""
    big, small = find(
        canvas(lambda d: (d.rectangle((40, 60, 139, 259), fill=1), d.rectangle((400, 100, 459, 199), fill=1)))
    )
    assert (big.x0, big.y0, big.x1, big.y1) == (40, 60, 140, 260)
    assert (small.x0, small.y0, small.x1, small.y1) == (400, 100, 460, 200)
    assert big.area_share == pytest.approx(100 * 200 / (640 * 360), rel=0.01)
    assert big.presence == pytest.approx(0.95)
    assert big.alpha.shape == (200, 100)


def test_a_hand_behind_an_outline_belongs_to_its_body() -> None:
    """Protects: a small part across a thin gap joins; a like-sized neighbour across the same gap does not."""
    (whole,) = find(
        canvas(lambda d: (d.rectangle((100, 60, 219, 259), fill=1), d.rectangle((224, 100, 249, 139), fill=1)))
    )
    assert (whole.x0, whole.x1) == (100, 250)
    pair = find(canvas(lambda d: (d.rectangle((100, 60, 199, 259), fill=1), d.rectangle((205, 60, 304, 259), fill=1))))
    assert len(pair) == 2
    assert pair[0].x1 <= 202 or pair[0].x0 >= 203


def test_small_holes_are_filled_and_large_ones_kept() -> None:
    """Protects: an eye is part of the face; the gap under an arm shows background."""

    def ring(d: ImageDraw.ImageDraw) -> None:
        d.rectangle((100, 60, 299, 299), fill=1)
        d.rectangle((120, 80, 129, 89), fill=0)
        d.rectangle((200, 150, 279, 249), fill=0)

    (found,) = find(canvas(ring))
    assert found.alpha[85 - found.y0, 125 - found.x0] == 255
    assert found.alpha[200 - found.y0, 240 - found.x0] == 0


def test_an_instance_inside_another_ones_hole_stays_apart() -> None:
    """Protects: a character seen through a window frame is not filled over."""

    def window(d: ImageDraw.ImageDraw) -> None:
        d.rectangle((100, 20, 539, 339), fill=1)
        d.rectangle((110, 30, 529, 329), fill=0)
        d.ellipse((290, 150, 350, 210), fill=1)

    frame, figure = sorted(find(canvas(window)), key=lambda i: i.x0)
    assert frame.alpha[180 - frame.y0, 320 - frame.x0] == 0
    assert figure.alpha[30, 30] > 200


def test_soft_edges_are_kept() -> None:
    """Protects: hair keeps the network's soft alpha below the threshold."""
    ramp = np.zeros((360, 640), np.float32)
    ramp[100:250, 200:300] = 0.9
    ramp[100:250, 300:303] = 0.3
    (found,) = find(ramp)
    assert found.x1 == 303
    assert set(np.unique(found.alpha[75, -3:])) == {round(0.3 * 255)}


@pytest.mark.parametrize(
    ("box", "limits"),
    [
        ((100, 100, 110, 300), {}),
        ((100, 100, 120, 120), {"min_side_px": 8}),
        ((0, 0, 639, 350), {}),
    ],
    ids=["too narrow", "too small", "scenery"],
)
def test_limits_drop_what_is_no_character(box: tuple[int, int, int, int], limits: dict[str, object]) -> None:
    """Protects: slivers, specks and whole-frame masks."""
    assert find(canvas(lambda d: d.rectangle(box, fill=1)), **limits) == []


def test_a_crowd_is_cut_to_the_largest() -> None:
    """Protects: the limit of instances per frame."""
    crowd = canvas(lambda d: [d.rectangle((x, 100, x + 40 + x // 20, 200), fill=1) for x in range(10, 600, 90)])
    areas = [instance.area_share for instance in find(crowd, max_instances_per_frame=3)]
    assert len(areas) == 3
    assert areas == sorted(areas, reverse=True)


def test_edge_contact() -> None:
    """Protects: a figure cut by the frame is known as such."""
    (cut,) = find(canvas(lambda d: d.rectangle((0, 100, 99, 199), fill=1)))
    assert cut.edge_contact_share == pytest.approx(0.25, abs=0.01)
    (free,) = find(canvas(lambda d: d.rectangle((100, 100, 199, 199), fill=1)))
    assert free.edge_contact_share == 0


def test_refined_edges_are_those_of_the_picture() -> None:
    """Protects: a network of a quarter of the frame's resolution still gives clean edges, and nothing else changes."""
    image = canvas(lambda d: d.ellipse((200, 100, 420, 300), fill=1)) > 0.5
    picture = Image.fromarray(np.where(image[..., None], (220, 60, 40), (40, 120, 200)).astype(np.uint8))
    small = Image.fromarray(image.astype(np.float32)).reduce(4).resize((640, 360), Image.Resampling.BILINEAR)
    soft = np.asarray(small)
    (plain,) = find_instances(picture, soft, SETTINGS)
    (refined,) = find_instances(picture, soft, SETTINGS.model_copy(update={"refine_alpha": True}))

    def error(found: Instance) -> float:
        alpha = np.zeros((360, 640), np.float32)
        alpha[found.y0 : found.y1, found.x0 : found.x1] = found.alpha / 255
        return float(np.abs(alpha - image).mean())

    assert error(refined) < 0.7 * error(plain)
    assert abs(refined.x0 - plain.x0) <= 6 and abs(refined.y1 - plain.y1) <= 6


def test_two_who_touch_are_told() -> None:
    """Protects: a pair in one cut-out is known as such; arms, ears and a halved figure are no second one."""
    pair = canvas(lambda d: [d.ellipse((x, 100, x + 120, 280), fill=1) for x in (100, 215)])
    (both,) = find(pair)
    assert both.lobe_count == 2

    def figure(d: ImageDraw.ImageDraw) -> None:
        d.ellipse((200, 120, 340, 280), fill=1)
        for x0, y0, x1, y1 in ((110, 180, 210, 204), (330, 180, 430, 204), (220, 80, 244, 140), (300, 80, 324, 140)):
            d.rectangle((x0, y0, x1, y1), fill=1)

    assert [one.lobe_count for one in find(canvas(figure))] == [1]
    assert [one.lobe_count for one in find(canvas(lambda d: d.ellipse((-60, 100, 60, 280), fill=1)))] == [1]


def test_sharpness_and_luma_look_inside_the_mask_only() -> None:
    """Protects: a busy background does not make a flat figure sharp."""
    noise = np.random.default_rng(0).integers(0, 255, (360, 640, 3), dtype=np.uint8)
    noise[100:250, 200:300] = 77
    inside = np.zeros((360, 640), np.float32)
    inside[101:249, 201:299] = 0.9
    (found,) = find_instances(Image.fromarray(noise), inside, SETTINGS)
    assert found.sharpness == 0
    assert found.luma_mean == pytest.approx(77, abs=1)


@pytest.mark.parametrize("size_px", [(1920, 1080), (333, 517), (1921, 1079)])
def test_any_frame_size(size_px: tuple[int, int]) -> None:
    """Protects: working at a lower resolution neither shifts nor crops the result."""
    w, h = size_px
    (found,) = find(canvas(lambda d: d.ellipse((w // 4, h // 4, w // 2, h // 2), fill=1), size_px=size_px))
    assert (found.x0, found.y0) == pytest.approx((w // 4, h // 4), abs=1)
    assert (found.x1, found.y1) == pytest.approx((w // 2 + 1, h // 2 + 1), abs=1)


def test_noise_does_not_take_long() -> None:
    """Protects: thousands of specks are dropped, not cut one by one."""
    noise = (np.random.default_rng(0).random((720, 1280)) > 0.9).astype(np.float32)
    assert find(noise, min_area_share=0.01, max_area_share=0.5) == []


def test_sizes_must_agree() -> None:
    """Protects: a mask of another frame is refused."""
    with pytest.raises(ValueError, match="not of the frame's size"):
        find_instances(scene(1), np.zeros((5, 5), np.float32), SETTINGS)
