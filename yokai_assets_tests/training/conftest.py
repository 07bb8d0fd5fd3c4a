"""What the training tests share: one tiny base model for the whole session, and one torch thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from yokai_assets.storage.layout import Layout
from yokai_assets.training.base_model import BaseModel, open_base_model
from yokai_assets_tests.training.tiny import make_base, make_layout


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bases") / "sd15")


@pytest.fixture(scope="session")
def base(base_folder: Path) -> BaseModel:
    return open_base_model(str(base_folder), "cpu")


@pytest.fixture(scope="session")
def sdxl_base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("bases") / "sdxl"
    return open_base_model(str(make_base(folder, family="sdxl", use_linear_projection=True)), "cpu")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make_layout(tmp_path / "data")
