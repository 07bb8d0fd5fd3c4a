"""The code location loads fast, because heavy libraries are imported where they are used."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch", "torchvision", "diffusers", "transformers", "peft", "open_clip", "rembg", "onnxruntime",
    "hdbscan", "umap", "cv2", "sklearn", "scipy", "matplotlib", "skimage", "faiss", "networkit", "numba",
)  # fmt: skip


@pytest.mark.parametrize("module", ["yokai_assets.definitions", "yokai_assets.cli.main", "yokai_assets.demo.series"])
def test_no_heavy_import(module):
    """Every code server, sensor tick and run pays for what `definitions` imports; torch alone costs two seconds."""
    program = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == []
