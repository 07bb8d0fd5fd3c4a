"""What is behind the character: in the parts asked for, never the shot's own plate, the same every time."""

from collections import Counter

import pytest

from yokai_assets.datasets.grounds import GREY, WHITE, Wanted, assign_grounds, plain_ground
from yokai_assets.settings.model import GroundShares
from yokai_assets.tables import BACKGROUNDS

PLATES = BACKGROUNDS.from_rows(
    {
        **{"episode": "e1", "shot": shot, "plate": f"plates/{shot}.webp", "frame_count": 9},
        **{"filled_share": 0.9 if shot == 5 else 0.1, "width_px": 320, "height_px": 180},
    }
    for shot in range(6)
)


def images(count: int, **changes) -> list[Wanted]:
    return [Wanted(**{"instance_id": f"e1/{n:06d}/0", "episode": "e1", "shot": n % 6, "has_own": True, **changes})
            for n in range(count)]  # fmt: skip


def kinds(grounds: dict) -> Counter[str]:
    return Counter(ground.kind for ground in grounds.values())


def test_parts_are_those_asked_for() -> None:
    """Protects: a mixture in the settings is the mixture in the set, to the image."""
    shares = GroundShares(original=4, plain=3, plate=2, transparent=1)
    assert kinds(assign_grounds(images(20), shares, PLATES, 0)) == {
        "original": 8, "plain": 6, "plate": 4, "transparent": 2
    }  # fmt: skip
    assert sum(kinds(assign_grounds(images(7), shares, PLATES, 0)).values()) == 7


def test_plates_are_of_other_shots_and_were_seen() -> None:
    """Protects: the place is another one, and no plate that is mostly painted in is shown."""
    grounds = assign_grounds(images(60), GroundShares(original=0, plain=0, plate=1), PLATES, 0)
    shown = {name: ground.plate for name, ground in grounds.items()}
    for image in images(60):
        assert shown[image.instance_id] not in (f"plates/{image.shot}.webp", "plates/5.webp")
    assert len(set(shown.values())) == 5


def test_without_plates_plain_grounds_take_their_part() -> None:
    """Protects: a series without clean plates still is not learnt with its places."""
    found = kinds(assign_grounds(images(10), GroundShares(original=5, plain=2, plate=3), PLATES.clear(), 0))
    assert found == {"original": 5, "plain": 5}


def test_an_image_without_a_ground_of_its_own_gets_another() -> None:
    """Protects: a stranger in the crop is not shown, even where only original backgrounds were asked for."""
    shares = GroundShares(original=1, plain=0, plate=0)
    assert kinds(assign_grounds(images(4, has_own=False), shares, PLATES, 0)) == {"plain": 4}
    mixed = [*images(5), Wanted("e2/000000/0", "e2", 0, has_own=False)]
    found = assign_grounds(mixed, GroundShares(original=1, plain=1, plate=0), PLATES, 0)
    assert kinds(found) == {"original": 3, "plain": 3} and found["e2/000000/0"].kind == "plain"


def test_images_that_come_do_not_change_the_others() -> None:
    """Protects: caches: a new episode does not render every image anew."""
    shares = GroundShares(original=1, plain=1, plate=1)
    before, now = (assign_grounds(images(count), shares, PLATES, 0) for count in (60, 63))
    same = sum(before[name] == now[name] for name in before)
    assert same >= 55
    assert before == assign_grounds(images(60)[::-1], shares, PLATES, 0)
    assert before != assign_grounds(images(60), shares, PLATES, 1)


def test_plain_grounds_vary() -> None:
    """Protects: no ground colour becomes part of the character."""
    grounds = [plain_ground(str(number), 0) for number in range(60)]
    assert {ground.tag for ground in grounds} == {"white background", "grey background", "simple background"}
    assert len({ground.color for ground in grounds}) > 10 and WHITE in grounds and GREY in grounds


def test_nothing_asked_for_is_an_error() -> None:
    """Protects: a slip of the pen in the settings is told, not guessed about."""
    with pytest.raises(ValueError, match="all shares are 0"):
        GroundShares(original=0, plain=0, plate=0)
