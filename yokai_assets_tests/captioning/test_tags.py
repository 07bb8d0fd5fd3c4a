"""Tags of a tagger: constant ones are left to the trigger, varying ones stay, none says twice what another says."""

from yokai_assets.analysis import load_vocabulary
from yokai_assets.captioning.tags import Tag, reader_tags, without_overlaps

ANIME = load_vocabulary("anime")


def texts(tags: list[list[Tag]]) -> list[list[str]]:
    return [[tag.text for tag in own] for own in tags]


def test_what_most_images_carry_is_left_to_the_trigger() -> None:
    """Protects: hair and clothes bind to the trigger; a hat worn now and then is asked for."""
    readings = [{"blue hair": 0.99, "school uniform": 0.9, "belt": 0.5} for _ in range(7)]
    readings += [{"blue hair": 0.97, "hat": 0.8}, {"blue hair": 0.98}, {}]
    assert texts(reader_tags(readings, ANIME, 0.6)) == [[]] * 7 + [["hat"], [], []]
    assert texts(reader_tags(readings, ANIME, 0.95))[0] == ["blue hair", "school uniform", "belt"]


def test_what_varies_by_nature_is_always_said() -> None:
    """Protects: a character that smiles in most images does not get its smile baked in."""
    readings = [{"smile": 0.9, "from side": 0.8, "blue hair": 0.9}] * 9 + [{"blue hair": 0.9}]
    assert texts(reader_tags(readings, ANIME, 0.6)) == [["smile", "from side"]] * 9 + [[]]


def test_the_longer_of_two_tags_stays() -> None:
    """Protects: token space; `hat` says nothing beside `blue hat`. Equal tags and parts of words are no overlaps."""
    tags = [
        Tag(text, 0.5, False) for text in ("hat", "blue hat", "chat", "blue", "Hair", "long hair ribbon", "hair ribbon")
    ]
    assert [tag.text for tag in without_overlaps(tags)] == ["blue hat", "chat", "long hair ribbon"]
    assert without_overlaps(tags[:1]) == tags[:1] and without_overlaps([]) == []
