"""Are characters found whom no model of ours ever saw? Foreign figures, varied as frames vary them, then clustered.

Each of some drawn figures (Fluent Emoji 3D) is one character: two outfits (the lower half recoloured), mirrored,
turned, shrunk, darkened, tinted, partly hidden, two to a frame. Strangers are pieces of drawn scenery and figures that
come a few times only. Embedded with EfficientNet-Lite0 (ImageNet) and with the bundled CLIP, which knows creatures of
its own family only. Fetched files are kept in `--weights`.
"""

import argparse
import io
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from sklearn.metrics import adjusted_rand_score

from yokai_assets.clustering import cluster_instances
from yokai_assets.demo.real_data import NotFetched, fetch_efficientnet_lite0, fetch_figures
from yokai_assets.embedding.instances import neutral_ground
from yokai_assets.embedding.model import open_image_text_model
from yokai_assets.settings.model import ClusteringSettings, EmbeddingSettings
from yokai_assets_tests.benchmarks.mattes import compose

NOISE = -1


def varied(figure: Image.Image, outfit: int, rng: np.random.Generator) -> Image.Image:
    """Return the figure in an outfit, as one frame might show it (RGBA)."""
    picture = recoloured(figure, 90 * outfit)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.rotate(rng.uniform(-14, 14), Image.Resampling.BICUBIC, expand=True)
    height = int(rng.integers(40, 200))
    picture = picture.resize((max(8, height * picture.width // picture.height), height), Image.Resampling.LANCZOS)
    alpha = picture.getchannel("A")
    colours = ImageEnhance.Brightness(picture.convert("RGB")).enhance(rng.uniform(0.45, 1.15))
    tint = Image.new("RGB", colours.size, tuple(int(c) for c in rng.integers(0, 256, 3)))
    colours = Image.blend(colours, tint, float(rng.uniform(0, 0.22)))
    buffer = io.BytesIO()
    colours.save(buffer, "JPEG", quality=int(rng.integers(55, 95)))
    colours = Image.open(buffer).convert("RGB")
    colours.putalpha(alpha)
    return hidden(colours, rng)


def recoloured(figure: Image.Image, degrees: int) -> Image.Image:
    """Turn the hue of the lower half: another outfit."""
    hue, saturation, value = figure.convert("RGB").convert("HSV").split()
    pixels = np.array(hue, np.int16)
    lower = pixels.shape[0] // 2
    pixels[lower:] = (pixels[lower:] + degrees * 256 // 360) % 256
    turned = Image.merge("HSV", (Image.fromarray(pixels.astype(np.uint8)), saturation, value)).convert("RGB")
    turned.putalpha(figure.getchannel("A"))
    return turned


def hidden(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cut up to a third off at a side or below, in a third of the cases."""
    if rng.random() > 0.33:
        return picture
    share = rng.uniform(0.1, 0.34)
    width, height = picture.size
    boxes = (
        (0, 0, width, height * (1 - share)),
        (0, 0, width * (1 - share), height),
        (width * share, 0, width, height),
    )
    left, top, right, bottom = boxes[int(rng.integers(3))]
    return picture.crop((int(left), int(top), max(int(left) + 4, int(right)), max(int(top) + 4, int(bottom))))


def scenery_piece(scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a blob of a scene, as a matte that takes scenery for somebody would."""
    side = int(rng.integers(60, 260))
    left, top = (int(rng.integers(0, size - side)) for size in scene.size)
    piece = scene.crop((left, top, left + side, top + side)).convert("RGB")
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    radii = side / 2 * rng.uniform(0.6, 1.0, len(angles))
    rows, columns = np.mgrid[:side, :side] - side / 2
    reach = np.interp(np.arctan2(rows, columns) % (2 * np.pi), [*angles, 2 * np.pi], [*radii, radii[0]])
    piece.putalpha(Image.fromarray((np.hypot(rows, columns) < reach).astype(np.uint8) * 255))
    return piece


def draw(figures: list[Image.Image], cast_count: int, seed: int) -> tuple[list[Image.Image], NDArray[np.int64]]:
    """Return cut-outs and the character of each (-1: nobody's)."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(figures))
    cast, others = order[:cast_count], order[cast_count:]
    cutouts, truth = [], []
    for character, figure in enumerate(cast):
        for _ in range(int(np.exp(rng.uniform(np.log(25), np.log(110))))):
            cutouts.append(varied(figures[figure], int(rng.random() < 0.35), rng))
            truth.append(character)
    scenes = [truth.image for truth in compose(figures, 60, seed) if not truth.masks]
    for place in range(len(cutouts) // 4):
        if place % 3:
            cutouts.append(scenery_piece(scenes[place % len(scenes)], rng))
        else:
            cutouts.append(varied(figures[others[place // 3 % len(others)]], 0, rng))
        truth.append(NOISE)
    shuffled = rng.permutation(len(cutouts))
    return [cutouts[row] for row in shuffled], np.asarray(truth)[shuffled]


def frames_of(truth: NDArray[np.int64]) -> list[str]:
    """Put neighbours of different identity two to a frame."""
    frames, number = [], 0
    for row, who in enumerate(truth):
        if row % 2 == 0 or (who != NOISE and who == truth[row - 1]):
            number += 1
        frames.append(f"e01/{number:06d}")
    return frames


def judged(truth: NDArray[np.int64], labels: NDArray[np.int32]) -> str:
    """Return a row of the table."""
    characters, groups = range(truth.max() + 1), range(labels.max() + 1)
    shares = {
        group: Counter(truth[labels == group].tolist()).most_common(2) for group in groups if (labels == group).any()
    }
    sizes = {group: int((labels == group).sum()) for group in shares}
    owner = {group: top[0][0] for group, top in shares.items()}
    mixed = sum(len(top) > 1 and top[1][1] > 0.1 * sizes[group] for group, top in shares.items())
    found = 0
    for character in characters:
        own = truth == character
        overlaps = ((own & (labels == group)).sum() / (own | (labels == group)).sum() for group in shares)
        found += max(overlaps, default=0.0) >= 0.5
    split = sum(list(owner.values()).count(character) > 1 for character in characters)
    strangers = sum(who == NOISE for who in owner.values())
    known = truth != NOISE
    clustered = known & (labels >= 0)
    return (
        f"{adjusted_rand_score(truth[clustered], labels[clustered]):.3f} | {(labels[known] < 0).mean():.1%} | "
        f"{(labels[~known] < 0).mean():.0%} | {found} of {len(characters)} | {mixed} | {split} | {strangers}"
    )


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("build/real"), help="Where fetched files are kept.")
    parser.add_argument("--characters", type=int, default=25, help="Figures that are characters.")
    parser.add_argument("--seeds", type=int, default=3, help="Series to draw.")
    options = parser.parse_args()
    options.weights.mkdir(parents=True, exist_ok=True)
    try:
        figures = [Image.open(file).convert("RGBA") for file in fetch_figures(options.weights)]
        network = f"local-dir:{fetch_efficientnet_lite0(options.weights)}"
    except NotFetched as error:
        print(f"nothing to measure on: {error}")
        return
    print("| vectors | cut-outs | ARI | members lost | strangers rejected | found | mixed | split | of strangers |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, model in (("EfficientNet-Lite0", network), ("bundled CLIP", "demo")):
        embedding = EmbeddingSettings.model_validate({"model": model})
        opened = open_image_text_model(embedding, "cpu")
        for seed in range(options.seeds):
            cutouts, truth = draw(figures, options.characters, seed)
            vectors = opened.embed_images([neutral_ground(cutout, embedding.neutral_grey) for cutout in cutouts])
            labels = cluster_instances(vectors, frames_of(truth), ClusteringSettings(), 0).labels
            print(f"| {name}, series {seed} | {len(cutouts)} | {judged(truth, labels)} |", flush=True)


if __name__ == "__main__":
    main()
