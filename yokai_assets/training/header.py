"""What stands in a checkpoint's header: how programs classify and list it, and everything it was made of.

ModelSpec 1.0.1 and kohya's `ss_` names are what UIs read; `yokai_` names are lineage. Nothing here depends on when
or where a training ran, so that one that was interrupted ends with the same file. What only publishing knows
(thumbnail, scores, date) is added there.
"""

from collections import Counter
from typing import Any

from yokai_assets import __version__
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.training.base_files import Family
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.checkpoints import RunIdentity
from yokai_assets.training.encoding import EncodedDataset
from yokai_assets.training.optimizers import learning_rate_of

ARCHITECTURES: dict[Family, str] = {
    "sd15": "stable-diffusion-v1/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora",
}
BASE_VERSIONS: dict[Family, str] = {"sd15": "sd_v1", "sdxl": "sdxl_base_v1-0"}
_OPTIMIZERS = {
    "adamw": "torch.optim.AdamW",
    "adamw8bit": "bitsandbytes.optim.AdamW8bit",
    "prodigy": "prodigyopt.Prodigy",
}


def kohya_header(family: Family, rank: int, alpha: float, title: str, prediction_type: str) -> dict[str, str]:
    """Return the header fields that readers need to classify a LoRA; all values are strings."""
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": ARCHITECTURES[family],
        "modelspec.implementation": "diffusers",
        "modelspec.title": title,
        "modelspec.prediction_type": "v" if prediction_type == "v_prediction" else prediction_type,
        "ss_output_name": title,
        "ss_v2": "False",
        "ss_base_model_version": BASE_VERSIONS[family],
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_network_args": "{}",
    }


def options_header(settings: TrainingSettings, base: BaseModel, seed: int) -> dict[str, Any]:
    """Return the fields that say with which options a LoRA was trained; settings must be resolved."""
    text_rate = learning_rate_of("text_encoder", settings) if settings.train_text_encoder else None
    return {
        "modelspec.resolution": f"{settings.resolution_px}x{settings.resolution_px}",
        "ss_resolution": f"({settings.resolution_px}, {settings.resolution_px})",
        "ss_sd_model_name": base.public_name,
        **({"ss_new_sd_model_hash": base.file_sha256} if base.file_sha256 else {}),
        "ss_max_train_steps": str(settings.max_train_steps),
        "ss_total_batch_size": str(settings.train_batch_size * settings.gradient_accumulation_steps),
        "ss_gradient_accumulation_steps": str(settings.gradient_accumulation_steps),
        "ss_gradient_checkpointing": str(settings.gradient_checkpointing),
        "ss_learning_rate": str(settings.learning_rate),
        "ss_unet_lr": str(settings.learning_rate),
        "ss_text_encoder_lr": str(text_rate),
        "ss_optimizer": f"{_OPTIMIZERS[settings.optimizer]}(weight_decay={settings.weight_decay})",
        "ss_lr_scheduler": settings.lr_scheduler,
        "ss_lr_warmup_steps": str(settings.lr_warmup_steps),
        "ss_max_grad_norm": str(settings.max_grad_norm),
        "ss_min_snr_gamma": str(settings.min_snr_gamma),
        "ss_noise_offset": str(settings.noise_offset or None),
        "ss_zero_terminal_snr": str(base.has_zero_terminal_snr),
        "ss_caption_dropout_rate": str(settings.caption_dropout),
        "ss_mixed_precision": base.precision,
        "ss_cache_latents": "True",
        "ss_clip_skip": "None",
        "ss_seed": str(seed),
    }


def dataset_header(
    dataset: EncodedDataset, name: str, settings: TrainingSettings, vae_scale_factor: int
) -> dict[str, Any]:
    """Return the fields that say on what a LoRA was trained: tags, sizes, and every image by its content."""
    shown = [example for example in dataset.train for _ in range(example.repeats)]
    tags = Counter(tag for example in shown for tag in map(str.strip, example.captions[0].split(",")) if tag)
    sizes = Counter(tuple(side * vae_scale_factor for side in reversed(example.weights.shape)) for example in shown)
    buckets = {
        str(index): {"resolution": list(size), "count": count}
        for index, (size, count) in enumerate(sorted(sizes.items()))
    }
    return {
        "ss_num_train_images": str(len(shown)),
        "ss_num_reg_images": "0",
        "ss_tag_frequency": {name: dict(tags.most_common())},
        "ss_dataset_dirs": {name: {"n_repeats": 1, "img_count": len(shown)}},
        "ss_bucket_info": {"buckets": buckets},
        "ss_enable_bucket": "True",
        "ss_bucket_no_upscale": "True",
        "ss_shuffle_caption": str(settings.shuffle_tags),
        "ss_keep_tokens": str(settings.keep_tags),
        "ss_random_flip": str(settings.flip),
        "yokai_training_images": {
            example.item_id: {"file": example.file, "sha256": example.file_sha256} for example in dataset.train
        },
    }


def lineage_header(identity: RunIdentity) -> dict[str, Any]:
    """Return the fields that say from which inputs, settings and code a LoRA comes."""
    return {
        "yokai_base_fingerprint": identity.base_fingerprint,
        "yokai_dataset_fingerprint": identity.dataset_fingerprint,
        "yokai_config_fingerprint": identity.config_fingerprint,
        "yokai_config": identity.config,
        "yokai_code_version": f"{__version__}, trainer {identity.config['trainer_version']}",
    }
