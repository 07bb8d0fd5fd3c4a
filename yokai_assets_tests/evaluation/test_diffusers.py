"""Evaluation on the real thing, small: a trained LoRA, a Stable-Diffusion-shaped base, diffusers' pipeline."""

from pathlib import Path

import numpy as np
import pytest

from yokai_assets.evaluation import evaluate_character
from yokai_assets.evaluation.drawing import draw_grid
from yokai_assets.evaluation.grid import prompt_grid
from yokai_assets.settings import Settings
from yokai_assets.settings.model import EvaluationSettings
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.tables import MEMBERS
from yokai_assets.training.base_model import BaseModel, open_base_model
from yokai_assets.training.trainer import train_lora
from yokai_assets_tests.evaluation.fakes import ColourEncoder, World
from yokai_assets_tests.training.tiny import CHARACTER, make_base, make_dataset, make_layout, tiny_training


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny base with random weights."""
    return open_base_model(str(make_base(tmp_path_factory.mktemp("base") / "sd15")), "cpu")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two prompts, two seeds, three steps of drawing, two of training."""
    return Settings.model_validate(
        {
            "data_root": str(tmp_path / "data"),
            "series": "tiny",
            "training": TrainingSettings.model_validate(
                {
                    "resolution_px": 32,
                    "bucket_step_px": 32,
                    "max_train_steps": 2,
                    "save_every_n_steps": 1,
                    "learning_rate": 0.05,
                    "train_batch_size": 2,
                    "network_dim": 4,
                    "lr_warmup_steps": 0,
                    "target_modules": ("to_q", "to_k", "to_v", "to_out.0"),
                }
            ),
            "evaluation": EvaluationSettings.model_validate(
                {
                    "prompts": ("{trigger}", "{trigger} red"),
                    "images_per_prompt": 2,
                    "inference_steps": 3,
                    "guidance_scale": 2.0,
                    "bootstrap_samples": 100,
                }
            ),
        }
    )


def test_a_trained_lora_is_drawn_and_judged(base: BaseModel, settings: Settings, tmp_path: Path):
    """Protects the way from trained files through diffusers to the table.

    The LoRA takes effect, and is off again for the base model.
    """
    layout = make_layout(tmp_path / "data")
    dataset = make_dataset(layout)
    train_lora(*tiny_training(layout, dataset), settings.training, "cpu", 0, header={}, base=base)
    world = World(tmp_path / "other")
    arguments = (
        CHARACTER,
        dataset,
        world.characters,
        world.embeddings,
        MEMBERS.empty(),
        "ykaba",
        layout,
        settings,
        "cpu",
    )
    first = evaluate_character(*arguments, base=base, model=ColourEncoder())
    assert [row.step for row in first.record.checkpoints] == [0, 1, 2]
    pictures = {p.step: (first.folder / p.file).read_bytes() for p in first.record.pictures if p.seed == 0}
    assert len(set(pictures.values())) == 3
    second = evaluate_character(*arguments, base=base, model=ColourEncoder())
    assert first.table.equals(second.table)


def test_pictures_do_not_depend_on_their_neighbours_in_a_batch(base: BaseModel, settings: Settings):
    """Protects comparability between devices with room for other batch sizes: same seed, same latents."""
    cells = prompt_grid(settings.evaluation, "ykaba", 3)
    together = [pixels for _, pixels in draw_grid(base.build_pipeline(None), cells, settings.evaluation, 32)]
    alone = [next(draw_grid(base.build_pipeline(None), [c], settings.evaluation, 32))[1] for c in cells]
    np.testing.assert_allclose(np.stack(together), np.stack(alone), atol=2e-3)
    assert np.abs(together[0] - together[1]).max() > 0.05
