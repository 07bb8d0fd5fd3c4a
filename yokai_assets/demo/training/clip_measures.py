"""How good the demo's CLIP is on creatures that it has never seen: identity, attributes by prompts, captions.

Works on an exported folder, through open_clip, as the product uses it. Not here: training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yokai_assets.demo.creatures import ATTRIBUTES
from yokai_assets.demo.training.random_crops import CropSet


def embed_folder(folder: Path, pictures: NDArray[np.uint8], texts: list[str]) -> tuple[NDArray, NDArray]:
    """Unit vectors (N, D) of pictures (N, S, S, 3) and (M, D) of texts, by the model in the folder."""
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    vectors = []
    with torch.no_grad():
        for start in range(0, len(pictures), 64):
            batch = [preprocess(Image.fromarray(picture)) for picture in pictures[start : start + 64]]  # type: ignore[operator]
            vectors.append(model.encode_image(torch.stack(batch), normalize=True))  # type: ignore[operator, arg-type]
        text_vectors = model.encode_text(tokenizer(texts), normalize=True)  # type: ignore[operator]
    return torch.cat(vectors).numpy(), text_vectors.numpy()


def measure_clip(folder: Path, crops: CropSet) -> dict[str, float]:
    """Measures of an exported model.

    `identity_1nn` is the share of crops whose nearest other crop shows the same creature; `cosine_within` and
    `cosine_between` are mean cosines of crops of one creature and of two (with the 5th and 95th percentile);
    ``zero_shot_<attribute>`` the share of crops whose best prompt of "a creature with ..." is right;
    `caption_retrieval` the share of crops whose own caption is best among those of 200 crops.
    """
    prompts = [
        phrase if attribute.startswith("body_") else f"a creature with {phrase}"
        for attribute, values in ATTRIBUTES.items()
        for phrase in values.values()
    ]
    captions = [both[0] for both in crops.captions]
    images, texts = embed_folder(folder, np.asarray(crops.pictures), [*prompts, *captions])
    owner = np.repeat(np.arange(crops.designs), crops.views)
    cosines = images @ images.T
    is_same = owner[:, None] == owner[None]
    off_diagonal = ~np.eye(len(owner), dtype=bool)
    within, between = cosines[is_same & off_diagonal], cosines[~is_same]
    nearest = np.where(off_diagonal, cosines, -2).argmax(axis=1)
    measures = {
        "identity_1nn": float((owner[nearest] == owner).mean()),
        "cosine_within": float(within.mean()),
        "cosine_within_p05": float(np.quantile(within, 0.05)),
        "cosine_between": float(between.mean()),
        "cosine_between_p95": float(np.quantile(between, 0.95)),
    }
    start = 0
    for index, (attribute, values) in enumerate(ATTRIBUTES.items()):
        best = (images @ texts[start : start + len(values)].T).argmax(axis=1)
        measures[f"zero_shot_{attribute}"] = float((best == crops.labels[:, index]).mean())
        start += len(values)
    chosen = np.linspace(0, len(owner) - 1, 200).astype(int)
    similarity = images[chosen] @ texts[len(prompts) :][chosen].T
    measures["caption_retrieval_of_200"] = float((similarity.argmax(axis=1) == np.arange(200)).mean())
    return measures
