"""Trains the demo's CLIP: a small image-text model that open_clip loads, good for identity and for attributes.

``python -m yokai_assets.demo.training.clip --help``. Three objectives together: images and captions (Radford et
al. 2021, arXiv:2103.00020); pictures of one creature against all others (supervised contrastive, Khosla et al. 2020,
arXiv:2004.11362); every attribute told by prompts and by linear heads that are dropped afterwards. Not here: the
crops it learns from (:mod:`yokai_assets.demo.training.random_crops`), how it is measured
(:mod:`yokai_assets.demo.training.clip_measures`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from yokai_assets.demo.creatures import ATTRIBUTES, POSE_ATTRIBUTES
from yokai_assets.demo.models import MODELS_FOLDER, write_manifest
from yokai_assets.demo.training.augmentation import softened
from yokai_assets.demo.training.clip_measures import measure_clip
from yokai_assets.demo.training.random_crops import BACKGROUND_SHARE, CropSet, render_crops
from yokai_assets.demo.training.resumable import Run
from yokai_assets.demo.training.tokenizer import build_tokenizer, learn_merges
from yokai_assets.storage.files import whole_folder, write_json

if TYPE_CHECKING:
    import torch
    from torch import nn

SIZE_PX = 96
CONTEXT_LENGTH = 40
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
_PART_TEMPLATES = ("{}", "a creature with {}", "a cartoon creature with {}", "a picture of a creature with {}")
_WHOLE_TEMPLATES = ("{}", "a picture of {}", "a cartoon of {}", "{} standing")
_IDENTITY_TEMPERATURE = 0.1
_POSE_WEIGHT = 0.4
_IDENTITY_LOSS_WEIGHT = 0.5
_ATTRIBUTE_LOSS_WEIGHT = 4.0
_HEAD_LOSS_WEIGHT = 8.0
"""Colours alone nearly settle identity: without attributes' weight the model learns nothing but colours."""
_SOFT_SHARE = 0.5
_DESIGNS_PER_BATCH = 40
_CAPTIONED_VIEWS = 2
"""Captions cost a third of a step; two pictures of each creature get one."""


def model_config(vocabulary_size: int) -> dict[str, Any]:
    """The open_clip configuration, as in ``open_clip_config.json``."""
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {"image_size": SIZE_PX, "layers": [1, 2, 2, 1], "width": 16, "head_width": 64},
            "text_cfg": {
                "context_length": CONTEXT_LENGTH, "vocab_size": vocabulary_size, "hf_tokenizer_name": "local",
                "width": 96, "heads": 4, "layers": 3,
            },
        },
        "preprocess_cfg": {
            "mean": list(MEAN), "std": list(STD), "interpolation": "bicubic", "resize_mode": "squash",
        },
    }  # fmt: skip


def build_model(vocabulary_size: int) -> nn.Module:
    """The untrained model, an `open_clip.CLIP`."""
    from open_clip.model import CLIP

    return CLIP(**model_config(vocabulary_size)["model_cfg"])


def build_trainee(vocabulary_size: int) -> nn.ModuleDict:
    """The model and linear attribute heads on its image vectors, which quicken learning and are not exported."""
    from torch import nn

    values = len(all_phrases())
    model = build_model(vocabulary_size)
    return nn.ModuleDict({"clip": model, "heads": nn.Linear(model_config(0)["model_cfg"]["embed_dim"], values)})


def build_clip_tokenizer(captions: list[list[str]]) -> Any:
    """A byte-level tokenizer of the captions' and prompts' words; only the end of a text has the highest id.

    open_clip pools the text at the highest token id, so padding must not be the end token.
    """
    prompts = [template.format(phrase) for template in _PART_TEMPLATES + _WHOLE_TEMPLATES for phrase in all_phrases()]
    tokenizer = build_tokenizer(
        learn_merges([*(text for both in captions for text in both), *prompts * 20]), CONTEXT_LENGTH
    )
    tokenizer.pad_token = tokenizer.bos_token
    return tokenizer


def all_phrases() -> list[str]:
    """The phrases of all attributes, in the order of :data:`ATTRIBUTES`."""
    return [phrase for values in ATTRIBUTES.values() for phrase in values.values()]


def _encode(tokenizer: Any, texts: list[str]) -> torch.Tensor:
    return tokenizer(
        texts, return_tensors="pt", max_length=CONTEXT_LENGTH, padding="max_length", truncation=True
    ).input_ids


def _prompts(rng: np.random.Generator) -> list[str]:
    """One prompt for every value of every attribute, in a random wording per attribute."""
    prompts = []
    for attribute, values in ATTRIBUTES.items():
        templates = _WHOLE_TEMPLATES if attribute.startswith("body_") else _PART_TEMPLATES
        template = templates[int(rng.integers(len(templates)))]
        prompts += [template.format(phrase) for phrase in values.values()]
    return prompts


def _augmented(pictures: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """(N, S, S, 3) uint8 to normalised (N, 3, S, S): mirrored, softened, other light, shifted by a few pixels."""
    import torch

    is_soft = rng.random(len(pictures)) < _SOFT_SHARE
    images = np.stack([softened(one, rng) if soft else one for one, soft in zip(pictures, is_soft, strict=True)])
    images = images.astype(np.float32) / 255
    is_mirrored = rng.random(len(images)) < 0.5
    images[is_mirrored] = images[is_mirrored, :, ::-1]
    images *= rng.uniform(0.85, 1.12, (len(images), 1, 1, 1)).astype(np.float32)
    images *= rng.uniform(0.95, 1.05, (len(images), 1, 1, 3)).astype(np.float32)
    shift_y, shift_x = rng.integers(-4, 5, 2)
    images = np.roll(images, (int(shift_y), int(shift_x)), axis=(1, 2))
    images = (np.clip(images, 0, 1) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).contiguous(
        memory_format=torch.channels_last
    )


def _caption_loss(
    images: torch.Tensor, texts: torch.Tensor, designs: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Symmetric InfoNCE; other captions of the same creature are no negatives."""
    import torch
    from torch.nn import functional

    logits = scale * images @ texts.T
    same = (designs[:, None] == designs[None]) & ~torch.eye(len(designs), dtype=torch.bool, device=designs.device)
    logits = logits.masked_fill(same, -1e4)
    target = torch.arange(len(images), device=images.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def _identity_loss(images: torch.Tensor, designs: torch.Tensor) -> torch.Tensor:
    """Supervised contrastive loss: pictures of one creature attract, of two repel."""
    import torch

    itself = torch.eye(len(designs), dtype=torch.bool, device=designs.device)
    logits = (images @ images.T / _IDENTITY_TEMPERATURE).masked_fill(itself, -1e4)
    positives = (designs[:, None] == designs[None]) & ~itself
    log_shares = logits - logits.logsumexp(dim=1, keepdim=True)
    return -(log_shares * positives).sum(1).div(positives.sum(1).clamp(min=1)).mean()


def _attribute_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over attributes; those of the pose weigh less than those of identity.

    Args:
        logits: (B, number of all values), in the order of :data:`ATTRIBUTES`.
        labels: (B, number of attributes).
    """
    import torch
    from torch.nn import functional

    total, start = torch.zeros((), device=logits.device), 0
    for index, (attribute, values) in enumerate(ATTRIBUTES.items()):
        weight = _POSE_WEIGHT if attribute in POSE_ATTRIBUTES else 1.0
        total = total + weight * functional.cross_entropy(logits[:, start : start + len(values)], labels[:, index])
        start += len(values)
    return total / len(ATTRIBUTES)


def _optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW; vectors and scalars do not decay, and the logit scale moves faster than the rest."""
    import torch

    parameters = dict(model.named_parameters())
    matrices = [one for one in parameters.values() if one.ndim > 1]
    vectors = [one for name, one in parameters.items() if one.ndim <= 1 and name != "clip.logit_scale"]
    groups = [
        {"params": matrices, "weight_decay": 0.02, "pace": 1.0},
        {"params": vectors, "weight_decay": 0.0, "pace": 1.0},
        {"params": [parameters["clip.logit_scale"]], "weight_decay": 0.0, "pace": 5.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate)


def train(
    run: Run, crops: CropSet, tokenizer: Any, device: str, seed: int, peak_learning_rate: float = 1.5e-3
) -> nn.Module:
    """Trains until the run's budget is spent; continues where its checkpoint stopped."""
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    trainee = build_trainee(len(tokenizer)).to(device)
    model: Any = trainee["clip"]
    heads = trainee["heads"]
    optimizer = _optimizer(trainee, peak_learning_rate)
    run.track(trainee, optimizer)
    trainee.train()
    is_running = run.step < run.steps
    while is_running:
        rng = np.random.default_rng([seed, run.step])
        designs = np.sort(rng.choice(crops.designs, _DESIGNS_PER_BATCH, replace=False)).repeat(crops.views)
        rows = designs * crops.views + np.tile(np.arange(crops.views), _DESIGNS_PER_BATCH)
        captioned = np.flatnonzero(np.tile(rng.permutation(crops.views) < _CAPTIONED_VIEWS, _DESIGNS_PER_BATCH))
        captions = [str(rng.choice(crops.captions[row])) for row in rows[captioned]]
        prompts = _prompts(rng)
        texts = functional.normalize(model.encode_text(_encode(tokenizer, captions + prompts).to(device)), dim=-1)
        with torch.autocast(device, torch.bfloat16):
            features = model.encode_image(_augmented(crops.pictures[rows], rng).to(device))
        features = features.float()
        images = functional.normalize(features, dim=-1)
        scale = model.logit_scale.exp().clamp(max=100)
        owner = torch.from_numpy(designs).to(device)
        labels = torch.from_numpy(crops.labels[rows]).to(device)
        caption_loss = _caption_loss(images[captioned], texts[: len(captions)], owner[captioned], scale)
        identity_loss = _identity_loss(images, owner)
        attribute_loss = _attribute_loss(scale * images @ texts[len(captions) :].T, labels)
        head_loss = _attribute_loss(heads(features), labels)
        for group in optimizer.param_groups:
            group["lr"] = group["pace"] * run.learning_rate(peak_learning_rate)
        optimizer.zero_grad()
        loss = caption_loss + _IDENTITY_LOSS_WEIGHT * identity_loss
        loss = loss + _ATTRIBUTE_LOSS_WEIGHT * attribute_loss + _HEAD_LOSS_WEIGHT * head_loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainee.parameters(), 2.0)
        optimizer.step()
        if run.step % 20 == 0:
            losses = {
                "caption": caption_loss,
                "identity": identity_loss,
                "attribute": attribute_loss,
                "head": head_loss,
            }
            run.log(**{name: float(loss.detach()) for name, loss in losses.items()}, scale=float(scale.detach()))
        is_running = run.advance()
    return model.eval()


def export(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Writes a folder that open_clip loads by ``local-dir:``: configuration, weights (float16) and tokenizer."""
    from safetensors.torch import save_file

    with whole_folder(folder) as temporary:
        tokenizer.save_pretrained(str(temporary))
        write_json(temporary / "open_clip_config.json", model_config(len(tokenizer)))
        weights = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
            for name, tensor in model.state_dict().items()
        }
        save_file(weights, str(temporary / "open_clip_model.safetensors"))


def _load_or_learn_tokenizer(folder: Path, crops: CropSet) -> Any:
    """The run's tokenizer; it is learnt once."""
    from transformers import CLIPTokenizer

    path = folder / "tokenizer"
    if not path.exists():
        with whole_folder(path) as temporary:
            build_clip_tokenizer(crops.captions).save_pretrained(str(temporary))
    return CLIPTokenizer.from_pretrained(str(path))


@click.command()
@click.option(
    "--run-folder", type=click.Path(path_type=Path), default=Path("build/demo-models/clip"), show_default=True
)
@click.option(
    "--output", type=click.Path(path_type=Path), default=MODELS_FOLDER / "clip", help="Where the export goes."
)
@click.option("--designs", default=4000, show_default=True, help="Creatures to render, four crops of each.")
@click.option("--steps", default=2200, show_default=True)
@click.option("--minutes", type=float, default=None, help="Stop after so many minutes; start again to go on.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    run_folder: Path,
    output: Path,
    designs: int,
    steps: int,
    minutes: float | None,
    device: str,
    threads: int,
    seed: int,
) -> None:
    """Train CLIP, export it, and measure the export through open_clip on creatures that it has not seen."""
    import torch

    torch.set_num_threads(threads)

    def show(done: int, total: int, note: str = "") -> None:
        if done % 640 == 0 or done == total:
            print(f"{done}/{total} {note}", flush=True)

    crops = render_crops(run_folder / "data", designs, 4, SIZE_PX, seed, show)
    unseen, uncut = (
        render_crops(run_folder / "data", 50, 20, SIZE_PX, seed + 10_000, show, share)
        for share in (BACKGROUND_SHARE, 1.0)
    )
    tokenizer = _load_or_learn_tokenizer(run_folder, crops)
    run = Run(run_folder, steps, minutes)
    model = train(run, crops, tokenizer, device, seed)
    export(model, tokenizer, output)
    write_manifest("clip", output.parent)
    for name, found in measure_clip(output, unseen, uncut).items():
        run.log(measure=name, mean=found.mean, low=found.low, high=found.high)


if __name__ == "__main__":
    main()
