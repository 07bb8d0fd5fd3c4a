"""A judge of pictures: a small network that tells a creature's attributes, trained apart from all shipped models.

It measures the base model (:mod:`yokai_assets.demo.training.measure`) and ships with nothing. Not here: what it is
asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yokai_assets.demo.creatures import ATTRIBUTES
from yokai_assets.demo.training.augmentation import softened
from yokai_assets.demo.training.portraits import draw_random
from yokai_assets.demo.training.random_crops import attribute_labels
from yokai_assets.demo.training.resumable import Run

if TYPE_CHECKING:
    import torch
    from torch import nn

_BATCH = 64
_SOFT_SHARE = 0.5
_PEAK_LEARNING_RATE = 2e-3


class Judge:
    """Tells the attributes of creatures in pictures."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network.eval()

    def __call__(self, pictures: NDArray[np.uint8]) -> Mapping[str, NDArray[np.int64]]:
        """For (N, S, S, 3) uint8 pictures the index of each attribute's value, (N,) int64 by attribute."""
        import torch

        with torch.inference_mode():
            parts = [self._network(_pixels(part)) for part in np.array_split(pictures, -(-len(pictures) // _BATCH))]
        return {
            name: logits.argmax(dim=1).numpy()
            for name, logits in zip(ATTRIBUTES, _by_attribute(torch.cat(parts)), strict=True)
        }


def build_network(widths: tuple[int, ...] = (32, 64, 96, 128)) -> nn.Module:
    """(B, 3, S, S) pixels in -1..1 to (B, number of all values) logits; S divisible by 2**len(widths)."""
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    values = sum(len(values) for values in ATTRIBUTES.values())
    # Where a thing is tells what it is (horns above, belly below): positions are kept until the end.
    head = [nn.Flatten(), nn.LazyLinear(256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, values)]
    return nn.Sequential(*layers, *head)


def train_judge(run: Run, seed: int, size_px: int, pictures: int = 20_000) -> Judge:
    """Trains the judge on freshly drawn pictures, sharp and soft ones, or loads it if that has been done.

    Args:
        run: its folder and budget.
        seed: of the pictures; another than the base model's, whose pictures the judge should not know.
        size_px: side of a picture.
        pictures: how many are drawn; each is seen several times.
    """
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    network = build_network()
    network(torch.zeros(2, 3, size_px, size_px))
    optimizer = torch.optim.AdamW(network.parameters(), lr=_PEAK_LEARNING_RATE, weight_decay=0.02)
    run.track(network, optimizer)
    if run.step >= run.steps:
        return Judge(network)
    drawn, labels = _drawn(seed, size_px, min(pictures, run.steps * _BATCH))
    network.train()
    is_running = True
    while is_running:
        torch.manual_seed(seed + run.step)  # dropout: a stopped run goes on as if it had not been
        rng = np.random.default_rng([seed, run.step])
        chosen = rng.integers(len(drawn), size=_BATCH)
        batch = np.stack([softened(one, rng) if rng.random() < _SOFT_SHARE else one for one in drawn[chosen]])
        targets = torch.from_numpy(labels[chosen])
        losses = [
            functional.cross_entropy(logits, targets[:, index], label_smoothing=0.02)
            for index, logits in enumerate(_by_attribute(network(_pixels(batch))))
        ]
        loss = torch.stack(losses).mean()
        for group in optimizer.param_groups:
            group["lr"] = run.learning_rate(_PEAK_LEARNING_RATE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if run.step % 100 == 0:
            run.log(loss=float(loss.detach()))
        is_running = run.advance()
    return Judge(network)


def _drawn(seed: int, size_px: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` pictures (N, S, S, 3) and the index of each attribute's value (N, attributes)."""
    pictures, labels = np.empty((count, size_px, size_px, 3), np.uint8), []
    for index in range(count):
        drawing = draw_random(np.random.default_rng([seed, index]), size_px)
        pictures[index] = drawing.picture
        labels.append(attribute_labels(drawing.design, drawing.pose))
    return pictures, np.array(labels, dtype=np.int64)


def _by_attribute(logits: torch.Tensor) -> Sequence[torch.Tensor]:
    return logits.split([len(values) for values in ATTRIBUTES.values()], dim=1)


def _pixels(pictures: NDArray[np.uint8]) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
