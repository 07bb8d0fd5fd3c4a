"""Measures, score and grid: values that can be worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from yokai_assets.evaluation import choose_checkpoint, find_checkpoints, measures, score_checkpoint, select_checkpoints
from yokai_assets.evaluation.choice import Judgement
from yokai_assets.evaluation.drawing import draw_grid, picture_defect
from yokai_assets.evaluation.grid import EvaluationError, prompt_grid, without_trigger
from yokai_assets.settings.model import EvaluationSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.training.files import TrainingFiles
from yokai_assets_tests.evaluation.fakes import write_record


def unit(*rows: tuple[float, ...]) -> np.ndarray:
    vectors = np.array(rows, float)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says():
    """Protects the 95 %: over 200 samples of 40 values the interval misses the truth in about one of twenty."""
    rng = np.random.default_rng(0)
    misses = 0
    for seed in range(200):
        found = measures.bootstrap_mean(rng.normal(3.0, 1.0, 40), 400, seed)
        misses += not found.low <= 3.0 <= found.high
    assert 2 <= misses <= 24


def test_bootstrap_is_deterministic_and_never_inverted():
    """Protects reproducibility and the order low <= mean <= high, also of a constant."""
    values = np.random.default_rng(1).random(30)
    assert measures.bootstrap_mean(values, 300, 7) == measures.bootstrap_mean(values, 300, 7)
    constant = measures.bootstrap_mean(np.full(5, 0.25), 100, 0)
    assert (constant.low, constant.mean, constant.high) == (0.25, 0.25, 0.25)
    with pytest.raises(ValueError, match="no values"):
        measures.bootstrap_mean(np.array([]), 100, 0)


def test_cosines_of_known_vectors():
    """Protects resemblance and nearest neighbours against a transposed matrix."""
    drawn, real = unit((1, 0), (1, 1)), unit((1, 0), (0, 1))
    np.testing.assert_allclose(measures.mean_cosines(drawn, real), [0.5, np.sqrt(0.5)])
    index, cosine = measures.nearest(unit((0.1, 1)), real)
    assert index.tolist() == [1] and cosine[0] > 0.99
    np.testing.assert_allclose(measures.mean_cosines_among(unit((1, 0), (1, 0), (0, 1))), [0.5, 0.5, 0.0], atol=1e-12)


def test_diversity_compares_pictures_of_one_prompt():
    """Protects against prompt variety being taken for diversity."""
    vectors = unit((1, 0), (1, 0), (0, 1), (0, 1))
    np.testing.assert_allclose(measures.diversity_values(vectors, [0, 0, 1, 1]), 0.0, atol=1e-12)
    np.testing.assert_allclose(measures.diversity_values(vectors, [0, 1, 0, 1]), 1.0)
    np.testing.assert_allclose(measures.diversity_values(unit((1, 0), (0, 1)), [0, 1]), 1.0)
    assert measures.diversity_values(unit((1, 0)), [0]).tolist() == [0.0]


def test_one_odd_exemplar_does_not_win():
    """Protects identification: a stray exemplar of another character next to the picture is outvoted."""
    picture = unit((1, 0.0))
    exemplars = {"a": unit((1, 0.1), (1, -0.1), (1, 0.12)), "b": unit((1, 0), (-1, 0.1), (-1, 0.2))}
    assert measures.identify(picture, exemplars) == ["a"]


def test_memorising_is_not_a_matter_of_how_many_training_images_there_are():
    """Protects the yardstick: fresh pictures of the same kind are rarely suspected beside 200 training images."""
    rng = np.random.default_rng(3)
    centre = rng.normal(size=64)

    def sample(count: int) -> np.ndarray:
        vectors = centre + 0.8 * rng.normal(size=(count, 64))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    training, held_out, drawn = sample(200), sample(20), sample(200)
    yardstick = measures.memorising_yardstick(held_out, training)
    _, cosine = measures.nearest(drawn, training)
    assert (cosine > yardstick).mean() < 0.15
    _, to_held_out = measures.nearest(drawn, held_out)
    assert (cosine > to_held_out).mean() > 0.8  # the naive comparison would call most of them memorised
    _, copies = measures.nearest(training[:5], training)
    assert (copies > yardstick).all()


def test_covered_share_is_undefined_where_base_equals_real():
    """Protects against a division by nothing."""
    assert measures.covered_share(0.8, 0.6, 0.9) == pytest.approx(2 / 3)
    assert measures.covered_share(0.9, 0.9, 0.9) is None


def test_the_interval_of_the_covered_share_covers_the_truth_about_as_often_as_it_says():
    """Protects the statement "covers 60 to 80 %": it must hold where the truth is known."""
    rng, hits = np.random.default_rng(4), 0
    for seed in range(200):
        common = rng.normal(0, 0.05, 24)
        base = 0.4 + common + rng.normal(0, 0.03, 24)
        drawn = 0.7 + common + rng.normal(0, 0.03, 24)
        found = measures.bootstrap_covered_share(drawn, base, rng.normal(0.9, 0.03, 8), 400, seed)
        assert found is not None and found.low <= found.mean <= found.high
        hits += found.low <= 0.6 <= found.high
    assert 0.86 <= hits / 200 <= 0.99
    assert measures.bootstrap_covered_share(drawn, base, base[:8] - 1, 100, 0) is None


def test_prompt_following_does_not_depend_on_who_is_drawn():
    """Protects against blaming a LoRA for its character: an offset of the figure towards any text cancels."""
    texts = np.eye(6)[:3]
    own = [0, 0, 1, 1, 2, 2]
    rng = np.random.default_rng(0)
    pictures = 0.3 * texts[own] + 0.02 * rng.normal(size=(6, 6))
    figure = np.array([0.2, -0.3, 0.1, 0.5, 0, 0])
    plain = measures.prompt_contrasts(pictures @ texts.T, own)
    shifted = measures.prompt_contrasts((pictures + figure) @ texts.T, own)
    np.testing.assert_allclose(plain, shifted, atol=1e-12)
    assert plain.min() > 0.2
    deaf = measures.prompt_contrasts(np.tile(pictures[:1] @ texts.T, (6, 1)), own)
    np.testing.assert_allclose(deaf, 0, atol=1e-12)


def judgement(step: int, likeness: float = 0.5, *refusals: str, **changes: float) -> Judgement:
    values = {"identification": 1.0, "prompt_loss": 0.0, "diversity_ratio": 1.0, "memorised_share": 0.0} | changes
    return Judgement(step=step, likeness=likeness, refusals=refusals, **values)


@pytest.mark.parametrize(
    ("worse", "part"),
    [
        ({"identification": 0.0}, "identification"),
        ({"prompt_loss": 0.6}, "prompt following"),
        ({"diversity_ratio": 0.05}, "diversity"),
        ({"memorised_share": 0.9}, "memorising"),
        ({"defect_share": 0.5}, "defects"),
    ],
)
def test_each_guard_can_turn_the_choice_and_is_named(worse: dict[str, float], part: str):
    """Protects each guard: a somewhat better likeness does not make up for it, and the reason says which."""
    best, _, reason = choose_checkpoint([judgement(100, 0.5), judgement(200, 0.6, **worse)])
    assert best.step == 100
    assert f"loses most in {part}" in reason


def test_likeness_decides_within_the_tolerances():
    """Protects the order of importance: small losses elsewhere do not outweigh resemblance."""
    slightly = {"prompt_loss": 0.2, "diversity_ratio": 0.6, "memorised_share": 0.2}
    best, _, reason = choose_checkpoint([judgement(100, 0.5), judgement(200, 0.6, **slightly)])
    assert best.step == 200 and "highest score" in reason


def test_a_checkpoint_that_may_not_be_published_gives_way_to_one_that_may():
    """Protects characters whose training went on too long: the sound checkpoint before is chosen, and it says why."""
    sound, overdone = judgement(100, 0.5), judgement(200, 0.9, "lora_does_not_copy")
    best, scores, reason = choose_checkpoint([sound, overdone, judgement(300, 0.1)])
    assert best.step == 100 and len(scores) == 3
    assert "step 100 has the highest publishable score" in reason
    assert "step 200 scores 1.150 and fails lora_does_not_copy" in reason and "next is step 300" in reason
    best, _, reason = choose_checkpoint([judgement(100, 0.5, "lora_beats_base"), overdone])
    assert best.step == 200 and "it fails lora_does_not_copy, as every other does some check" in reason


def test_equal_scores_are_won_by_less_training():
    """Protects the tie rule."""
    assert choose_checkpoint([judgement(300), judgement(100), judgement(200)])[0].step == 100
    assert score_checkpoint(judgement(1)).total == pytest.approx(0.75)
    with pytest.raises(ValueError, match="no checkpoint"):
        choose_checkpoint([])


def test_checkpoints_are_spread_evenly_with_the_last_one(tmp_path):
    """Protects the selection, and that unfinished and published files are no checkpoints."""
    layout = Layout(UPath(tmp_path), "s")
    folder = layout.lora("cluster_007")
    assert find_checkpoints("cluster_007", layout) == []
    folder.mkdir(parents=True)
    for step in range(100, 1100, 100):
        (folder / f"cluster_007-step{step:06d}.safetensors").write_bytes(b"")
    for name in (
        "cluster_007.safetensors",
        "cluster_007-v001.safetensors",
        ".cluster_007-step000150.safetensors.partial-1",
    ):
        (folder / name).write_bytes(b"")
    write_record(layout, "cluster_007", dict.fromkeys(range(100, 1100, 100), 0.5))
    found = find_checkpoints("cluster_007", layout)
    assert [c.step for c in found] == list(range(100, 1100, 100))
    assert [c.step for c in select_checkpoints(found, 4)] == [300, 500, 800, 1000]
    assert [c.step for c in select_checkpoints(found, 1)] == [1000]
    assert select_checkpoints(found[:3], 4) == found[:3]
    assert select_checkpoints(found, None) == found


def test_only_checkpoints_of_the_finished_training_count(tmp_path: Path):
    """Protects the choice: a file of an earlier, longer training, or of one that is going on, is never judged."""
    layout = Layout(UPath(tmp_path), "s")
    layout.lora("cluster_007").mkdir(parents=True)
    for step in (200, 400, 800):
        (layout.lora("cluster_007") / f"cluster_007-step{step:06d}.safetensors").write_bytes(b"")
    assert find_checkpoints("cluster_007", layout) == []
    write_record(layout, "cluster_007", dict.fromkeys((200, 400, 600), 0.5))
    assert [checkpoint.step for checkpoint in find_checkpoints("cluster_007", layout)] == [200, 400]
    TrainingFiles.of_character(layout, "cluster_007").record.write_text("{")
    with pytest.raises(EvaluationError, match=r"cluster_007-training\.json.*lora_model again"):
        find_checkpoints("cluster_007", layout)


def test_prompts_keep_other_braces_and_subjects_lose_the_trigger():
    """Protects prompts with attention syntax, and what a text encoder is asked."""
    settings = EvaluationSettings.model_validate(
        {"prompts": ("{trigger}, {red|blue} hat", "a hill"), "images_per_prompt": 2}
    )
    cells = prompt_grid(settings, "ykaba", 10)
    assert [(c.prompt, c.subject, c.seed, c.has_trigger) for c in cells] == [
        ("ykaba, {red|blue} hat", "{red|blue} hat", 10, True),
        ("ykaba, {red|blue} hat", "{red|blue} hat", 11, True),
        ("a hill", "a hill", 10, False),
        ("a hill", "a hill", 11, False),
    ]
    assert without_trigger("{trigger}") == ""
    assert without_trigger("photo of {trigger} ,  smiling") == "photo of, smiling"
    with pytest.raises(EvaluationError, match=r"\{trigger\}"):
        prompt_grid(EvaluationSettings.model_validate({"prompts": ("a hill",)}), "t", 0)


def test_defects_are_told_from_dark_but_sound_pictures():
    """Protects night scenes from being called black, and grey noise from being called constant."""
    dark = np.zeros((16, 16, 3), np.float32)
    assert picture_defect(dark) == "black"
    dark[4:8, 4:8] = 0.2
    assert picture_defect(dark) is None
    assert picture_defect(np.full((16, 16, 3), 0.5, np.float32)) == "constant"
    dark[0, 0, 0] = np.inf
    assert picture_defect(dark) == "not a number"


class ScarceMemoryPipeline:
    """Runs out of memory above a batch of two."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def set_progress_bar_config(self, **_): ...

    def __call__(self, *, prompt, generator, height, width, **_):
        import torch

        self.batches.append(len(prompt))
        if len(prompt) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        noise = [torch.rand(height, width, 3, generator=g).numpy() for g in generator]
        return type("Output", (), {"images": np.stack(noise)})()


def test_a_batch_that_does_not_fit_is_halved_without_changing_pictures():
    """Protects small GPUs: fewer pictures at once, the same pictures."""
    settings = EvaluationSettings.model_validate({"prompts": ("{trigger}",), "images_per_prompt": 5})
    cells = prompt_grid(settings, "t", 0)
    scarce = ScarceMemoryPipeline()
    drawn = [pixels for _, pixels in draw_grid(scarce, cells, settings, 8)]
    assert scarce.batches == [5, 2, 2, 1]
    single = [next(draw_grid(ScarceMemoryPipeline(), [cell], settings, 8))[1] for cell in cells]
    np.testing.assert_array_equal(np.stack(drawn), np.stack(single))
