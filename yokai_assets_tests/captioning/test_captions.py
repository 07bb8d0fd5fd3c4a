"""Captions: what varies is said, what stays is left to the trigger, what people corrected is kept."""

import logging

import polars as pl
import pytest
from upath import UPath

from yokai_assets.analysis import load_vocabulary, profile_character
from yokai_assets.captioning import OverridesError, caption_members, trigger_word
from yokai_assets.captioning.overrides import overrides_path
from yokai_assets.captioning.trigger import trigger_problems
from yokai_assets.settings.model import AnalysisSettings, CaptionSettings
from yokai_assets.tables import CAPTIONS
from yokai_assets.tagging import ImageReading
from yokai_assets_tests.small_series import HERO, OTHER, SmallSeries, WordModel, pixels_of

MODEL = WordModel()
VOCABULARY = load_vocabulary("creatures")
BODY = "a red round creature with horns, three eyes"


def made(tmp_path, looks: list[str]) -> SmallSeries:
    """Return a series with one image per look, and one of another character."""
    series = SmallSeries(UPath(tmp_path))
    for number, look in enumerate(looks):
        series.show("e1", number, {HERO: MODEL.embed_image(look, noise=0.1, seed=number)})
    series.show("e1", 99, {OTHER: MODEL.embed_image("a blue tall creature with antennae, one eye")})
    return series


def captions(series: SmallSeries, readings: dict[str, ImageReading] | None = None, **settings) -> pl.DataFrame:
    tables = series.tables()
    profile = profile_character(
        HERO, tables.members, tables.instances, tables.embeddings, series.layout, MODEL, VOCABULARY,
        AnalysisSettings.model_validate({}), 0,
    )  # fmt: skip
    return caption_members(
        profile, tables.members, tables.embeddings, MODEL, VOCABULARY, CaptionSettings.model_validate(settings), "tiny",
        layout=series.layout, readings=readings,
    )  # fmt: skip


def tags(table: pl.DataFrame) -> list[list[str]]:
    return table["tags"].to_list()


def test_constant_traits_are_left_to_the_trigger(tmp_path) -> None:
    """Protects: the character binds to its trigger, and expressions stay controllable."""
    looks = [f"{BODY}, happy smile, arms up", f"{BODY}, sad mouth, arms down", f"{BODY}, fangs, waving arm"] * 3
    table = captions(made(tmp_path, looks))
    assert table.height == 9
    for row in tags(table):
        assert not {"red creature", "horns", "three eyes"} & set(row)
    assert {"happy smile", "arms up"} <= set(tags(table)[0])
    assert {"sad mouth", "arms down"} <= set(tags(table)[1])


def test_trait_that_changes_is_said(tmp_path) -> None:
    """Protects: a second outfit can be asked for; it is not taken for part of the character."""
    looks = [f"{BODY}, hat"] * 5 + [f"{BODY}, bow tie"] * 5
    both = tags(captions(made(tmp_path, looks)))
    assert all("hat" in row for row in both[:5])
    assert all("bow tie" in row for row in both[5:])
    mostly = tags(captions(made(tmp_path / "2", [f"{BODY}, hat"] * 8 + [f"{BODY}, bow tie"] * 2)))
    assert not any("hat" in row for row in mostly)
    assert all("bow tie" in row for row in mostly[8:])


def test_single_misreading_is_not_said(tmp_path) -> None:
    """Protects: one odd reading among many does not teach a trait that the character does not have."""
    table = captions(made(tmp_path, [BODY] * 19 + ["a green round creature with horns, three eyes"]))
    assert not any("creature" in tag for row in tags(table) for tag in row)


def test_order_and_form(tmp_path) -> None:
    """Protects: trigger first, what varies next by falling score, then identity; the text is trigger and tags."""
    looks = [f"{BODY}, hat, happy smile, arms up"] * 5 + [f"{BODY}, bow tie, sad mouth, arms down"] * 5
    table = captions(made(tmp_path, looks))
    varying = {v.tag for a in VOCABULARY.attributes if not a.is_identity for v in a.values}
    trigger = trigger_word(HERO, "tiny", "ykai")
    for row in table.iter_rows(named=True):
        is_varying = [tag in varying for tag in row["tags"]]
        assert is_varying == sorted(is_varying, reverse=True)
        scores = [s for s, v in zip(row["scores"], is_varying, strict=True) if v]
        assert scores == sorted(scores, reverse=True)
        assert row["caption"] == ", ".join([trigger, *row["tags"]])
    assert table.schema == CAPTIONS.schema


def test_tags_are_limited(tmp_path) -> None:
    """Protects: captions stay within the text encoder's length; the trigger always stays."""
    series = made(tmp_path, [f"{BODY}, happy smile, arms up"] * 3)
    assert all(len(row) == 1 for row in tags(captions(series, max_tags=1)))
    bare = captions(series, max_tags=0)
    assert bare["caption"].to_list() == [trigger_word(HERO, "tiny", "ykai")] * 3


def corrected(series: SmallSeries, text: str) -> UPath:
    path = overrides_path(series.layout, HERO)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def test_corrections_survive_every_run(tmp_path) -> None:
    """Protects: a person's work is read, applied and never written to; a byte order mark does no harm."""
    series = made(tmp_path, [f"{BODY}, happy smile, arms up"] * 3)
    text = (
        '\ufeffblacklist = ["Arms Up"]\nalways = ["tiny style, tiny style"]\n'
        f'[captions]\n"{pixels_of("e1/000001/0")}" = "jumping , blue hat"\n'
    )
    path = corrected(series, text)
    for _ in range(2):
        table = captions(series)
        trigger = trigger_word(HERO, "tiny", "ykai")
        assert table["caption"][1] == f"{trigger}, jumping, blue hat"
        for row in (tags(table)[0], tags(table)[2]):
            assert row[0] == "tiny style"
            assert "tiny style" not in row[1:]
            assert "happy smile" in row
            assert "arms up" not in row
    assert path.read_bytes() == text.encode()


def test_correction_follows_its_picture(tmp_path, caplog) -> None:
    """Protects: after a new segmentation no correction lands on the picture that took the old one's place."""
    series = made(tmp_path, [BODY] * 3)
    key = pixels_of("e1/000001/0")
    corrected(series, f'[captions]\n"{key[:16]}" = "jumping"\n')
    first, second, third = (row for row in series.embeddings if row["instance_id"] != "e1/000003/0")
    first["cutout_sha256"], second["cutout_sha256"] = second["cutout_sha256"], first["cutout_sha256"]
    assert [row == ["jumping"] for row in tags(captions(series))] == [True, False, False]
    first["cutout_sha256"] = "0" * 64
    with caplog.at_level(logging.WARNING):
        assert not any(row == ["jumping"] for row in tags(captions(series)))
    assert key[:16] in caplog.text
    assert third["cutout_sha256"] == pixels_of("e1/000002/0")


def test_instance_id_is_refused_and_the_right_key_named(tmp_path) -> None:
    """Protects: whoever wrote a place in a frame is told what to write, and on which line."""
    series = made(tmp_path, [BODY])
    corrected(series, '# mine\n[captions]\n"e1/000000/0" = "jumping"\n')
    with pytest.raises(OverridesError, match=rf"captions\.toml: line 3: .*{pixels_of('e1/000000/0')[:16]}"):
        captions(series)


def test_tags_are_cleaned(tmp_path) -> None:
    """Protects: each caption is one line of tags, whatever people paste."""
    series = made(tmp_path, [BODY])
    messy = '"""\n jumping ,,\tblue\n  hat， Jumping,\u200b, \n"""'
    corrected(series, f'[captions]\n"{pixels_of("e1/000000/0")}" = {messy}\n')
    assert tags(captions(series)) == [["jumping", "blue hat"]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('always = ["fine", " , \\n"]', r"line 1: always\.2: holds no tag"),
        ('\nblacklist = [""]', r"line 2: blacklist\.1: holds no tag"),
        (f'[captions]\n"{"a" * 64}" = ",,"', r"line 2: captions\.a+: holds no tag"),
        ('[captions]\n"abc" = "x"', r"line 2: captions\.abc: is no cutout_sha256"),
        (f'[captions]\n"{"a" * 64}" = 5', r"line 2: captions\.a+: "),
        ("blacklist = [", "not valid TOML"),
        ('blacklists = ["x"]', "line 1: blacklists: Extra"),
        ('always = "x"', "line 1: always"),
    ],
)
def test_broken_corrections_stop_the_character(tmp_path, text: str, reason: str) -> None:
    """Protects: corrections are never dropped in silence, and the message leads to the line."""
    series = made(tmp_path, [BODY])
    corrected(series, text)
    with pytest.raises(OverridesError, match=rf"captions\.toml: .*{reason}"):
        captions(series)


def test_member_without_vector_gets_the_trigger_alone(tmp_path) -> None:
    """Protects: every member has a caption, as the check on captions demands."""
    series = made(tmp_path, [f"{BODY}, happy smile"] * 3)
    series.embeddings.pop(1)
    table = captions(series)
    assert table["caption"][1] == trigger_word(HERO, "tiny", "ykai")
    assert "happy smile" in tags(table)[0]


def test_a_tagger_is_heard_instead_of_the_vocabulary(tmp_path) -> None:
    """Protects: two readers that contradict each other never stand in one caption."""
    series = made(tmp_path, [f"{BODY}, happy smile, arms up"] * 4)
    readings = {f"e1/{n:06d}/0": ImageReading({"umbrella": 0.9 if n < 1 else 0.5, "night": 0.4}) for n in range(3)}
    readings["e1/000000/0"] = ImageReading({"umbrella": 0.9, "running": 0.7}, "it runs through the rain")
    table = captions(series, readings=readings)
    assert tags(table) == [["running"], ["night"], ["night"], []]
    assert table["sentence"].to_list() == ["it runs through the rain", "night", "night", ""]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("tags", ["{}", "happy smile", "arms up"]),
        ("sentence", ["a picture of {}", "a happy smile", "both arms up"]),
        ("both", ["{}", "happy smile", "arms up", "a happy smile", "both arms up"]),
    ],
)
def test_captions_are_tags_or_sentences(tmp_path, form: str, expected: list[str]) -> None:
    """Protects: base models that want sentences get them, with the trigger in each."""
    looks = [f"{BODY}, happy smile, arms up"] + [f"{BODY}, sad mouth, arms down"] * 2
    table = captions(made(tmp_path, looks), form=form)
    parts = table["caption"][0].split(", ")
    phrases = {v.tag: v.phrases[0] for a in VOCABULARY.attributes for v in a.values}
    wanted = {"a happy smile": phrases["happy smile"], "both arms up": phrases["arms up"]}
    assert parts[0] == expected[0].format(table["trigger"][0])
    assert sorted(parts[1:]) == sorted(wanted.get(part, part) for part in expected[1:])


def test_series_wide_blacklist(tmp_path) -> None:
    """Protects: a tag that nobody wants is named once, not for each of a hundred characters."""
    table = captions(made(tmp_path, [f"{BODY}, happy smile, arms up"] * 3), blacklist=("Happy Smile",))
    assert tags(table)[0] == ["arms up"]


def test_own_trigger(tmp_path) -> None:
    """Protects: people call a character by its name, if they want to; a comma would split it."""
    series = made(tmp_path, [f"{BODY}, happy smile"] * 2)
    path = overrides_path(series.layout, HERO)
    path.parent.mkdir(parents=True)
    path.write_text('trigger = " kiki  yokai "\n', "utf-8")
    table = captions(series)
    assert set(table["trigger"]) == {"kiki yokai"} and table["caption"][0].startswith("kiki yokai, ")
    path.write_text('trigger = "kiki, yokai"\n', "utf-8")
    with pytest.raises(OverridesError, match="without a comma"):
        captions(series)


def test_triggers_that_get_into_each_others_way_are_named(tmp_path) -> None:
    """Protects: two LoRAs loaded together; a chosen trigger that means something already."""
    series = SmallSeries(UPath(tmp_path))
    settings = CaptionSettings.model_validate({})
    ids = [f"cluster_{number:03d}" for number in range(300)]

    def problems(character_id: str) -> list[str]:
        return trigger_problems(character_id, ids, "tiny", settings, series.layout)[1]

    assert problems(HERO) == []
    for name, trigger in ((HERO, "kikitaro"), (OTHER, "kikitaro jr"), ("cluster_002", "cat")):
        path = overrides_path(series.layout, name)
        path.parent.mkdir(parents=True)
        path.write_text(f'trigger = "{trigger}"\n', "utf-8")
    assert problems(HERO) == ["cluster_001 has 'kikitaro jr', of which one begins the other"]
    assert problems(OTHER) == ["cluster_000 has 'kikitaro', of which one begins the other"]
    assert problems("cluster_002") == ["it is one token, so the text encoder has a meaning for it"]
    overrides_path(series.layout, OTHER).write_text("not toml", "utf-8")
    assert problems(HERO) == []
