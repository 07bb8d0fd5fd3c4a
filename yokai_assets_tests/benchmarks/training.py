"""Speed of the training loop with cached latents and text, against encoding both anew in every step.

Random weights of a real shape: speed does not depend on what they are. Both ways run in turns in one process, so
that whatever else the machine does hits both. Run: `python -m yokai_assets_tests.benchmarks.training --help`.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yokai_assets.devices import limit_threads, resolve_device
from yokai_assets.training.base_model import BaseModel, open_base_model
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.encoding import EncodedDataset, encode_dataset
from yokai_assets.training.environment import peak_memory_bytes
from yokai_assets.training.images import items_of
from yokai_assets.training.loop import TrainingLoop
from yokai_assets_tests.training.tiny import make_base, make_dataset, make_layout, make_settings

_FULL_VAE = {"block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32, "layers_per_block": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "demo": {
        "unet_options": {
            "in_channels": 16,
            "out_channels": 16,
            "block_out_channels": (64, 128),
            "norm_num_groups": 32,
            "down_block_types": ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2,
            "cross_attention_dim": 128,
        },
        "vae_options": {"block_out_channels": (16, 32, 48, 64), "norm_num_groups": 16, "latent_channels": 16},
        "text_options": {"hidden_size": 128, "intermediate_size": 512},
    },
    "sd15": {
        "unet_options": {
            "sample_size": 64,
            "layers_per_block": 2,
            "block_out_channels": (320, 640, 1280, 1280),
            "norm_num_groups": 32,
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            "cross_attention_dim": 768,
        },
        "vae_options": _FULL_VAE,
        "text_options": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
        },
    },
}


@dataclass(frozen=True, slots=True)
class Speed:
    """Time of `steps` training steps."""

    steps: int
    wall_seconds: float
    cpu_seconds: float


def encode_again(base: BaseModel, dataset: EncodedDataset, batch_size: int, resolution_px: int) -> Callable[[], None]:
    """Return what a loop without caches does in every step: a batch through the VAE and the text encoder."""
    import torch

    images = torch.rand(batch_size, 3, resolution_px, resolution_px) * 2 - 1
    captions = [dataset.train[index % len(dataset.train)].caption for index in range(batch_size)]

    def encode() -> None:
        with torch.no_grad():
            base.vae.encode(images.to(base.device))
            base.pipeline.encode_prompt(captions, base.device, 1, do_classifier_free_guidance=False)

    return encode


def timed(loop: TrainingLoop, steps: int, before_step: Callable[[], None], device: str) -> Speed:
    """Run some steps and time them; the GPU's queue is emptied before and after."""
    import torch

    synchronize = torch.cuda.synchronize if device != "cpu" else lambda: None
    synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        before_step()
        loop.train_step()
    loop.flush()
    synchronize()
    return Speed(steps, time.perf_counter() - wall, time.process_time() - cpu)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, list[Speed]]:
    """Return the speeds of every turn, with and without caches."""
    device = resolve_device(arguments.device)
    limit_threads(arguments.threads)
    model = make_base(folder / "base", **SHAPES[arguments.shape])
    base = open_base_model(str(model), device, precision=arguments.precision)
    layout = make_layout(folder / "data")
    settings = make_settings(
        model,
        max_train_steps=10_000,
        network_dim=arguments.rank,
        train_batch_size=arguments.batch_size,
        resolution_px=arguments.resolution,
        bucket_step_px=arguments.resolution,
        learning_rate=1e-4,
    )
    caches = TensorCache(layout.cache / "latents"), TensorCache(layout.cache / "text")
    dataset = encode_dataset(items_of(make_dataset(layout), layout), base, *caches, settings)
    loop = TrainingLoop(base, dataset, settings, 0)
    again = encode_again(base, dataset, arguments.batch_size, arguments.resolution)
    base.move_encoders(device)
    speeds: dict[str, list[Speed]] = {"cached": [], "uncached": []}
    timed(loop, arguments.warmup, again, device)
    for _ in range(arguments.turns):
        speeds["cached"].append(timed(loop, arguments.steps, lambda: None, device))
        speeds["uncached"].append(timed(loop, arguments.steps, again, device))
    print(f"{sum(p.numel() for p in base.pipeline.unet.parameters()) / 1e6:.1f} M UNet parameters on {device}")
    print(f"peak memory {peak_memory_bytes(device) / 2**20:.0f} MiB")
    return speeds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="demo")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("no", "bf16", "fp16"), default="bf16")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="yokai-benchmark-") as folder:
        speeds = measure(arguments, Path(folder))
    for kind in ("wall_seconds", "cpu_seconds"):
        medians = {
            name: float(np.median([getattr(speed, kind) / speed.steps for speed in turns]))
            for name, turns in speeds.items()
        }
        ratio = medians["uncached"] / medians["cached"]
        print(f"{kind} a step: cached {medians['cached']:.4f}, uncached {medians['uncached']:.4f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
