"""The networks in training: a UNet, and where asked for the text encoders, each with a LoRA adapter.

Here: adapters, and what the networks say with and without them. Not here: losses and updates (`loop`), files
(`export`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from yokai_assets.devices import to_device
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.training.base_model import BaseModel, TextEmbedding, encode_captions
from yokai_assets.training.quiet import quiet_about_precision

if TYPE_CHECKING:
    import torch

ADAPTER = "default"
TEXT_TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "out_proj")
"""Attention of a text encoder: 48 modules in CLIP-L."""
_UNET = "unet"


class TargetModulesError(ValueError):
    """A name that should get an adapter is of no module, or of one that can have none."""


class AdaptedModel:
    """A base model's networks with adapters, on its device; what has none stays where it is.

    Attributes:
        parts: Adapted networks by name of the pipeline's component: `unet`, and the text encoders where trained.
    """

    def __init__(
        self, base: BaseModel, settings: TrainingSettings, seed: int, texts: Mapping[str, TextEmbedding]
    ) -> None:
        """Make fresh copies with fp32 adapters whose first weights depend on the seed only.

        Args:
            base: Not changed.
            settings: Rank, alpha, target modules, what is trained and how it computes.
            seed: Of the first weights.
            texts: Embeddings of every caption, for text encoders that are not trained.

        Raises:
            TargetModulesError: A name in `settings.target_modules` is of no module that can have an adapter.
        """
        import torch

        self._base, self._texts = base, texts
        self.parts: dict[str, Any] = {_UNET: base.fresh(_UNET)}
        if settings.train_text_encoder:
            self.parts |= {name: base.fresh(name) for name in base.text_encoders}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, part in self.parts.items():
                _add_adapter(part, settings, settings.target_modules if name == _UNET else TEXT_TARGET_MODULES)
        for part in self.parts.values():
            _prepare(part, base)
        self._pipeline = base.assembled(**self.parts)
        self._memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
        if settings.channels_last:
            self.unet.to(memory_format=torch.channels_last)
        if settings.gradient_checkpointing:
            self.checkpoint_gradients()
        if settings.torch_compile:
            self.unet.compile()

    @property
    def unet(self) -> Any:
        """The UNet with its adapter."""
        return self.parts[_UNET]

    @property
    def trains_text(self) -> bool:
        """Whether the text encoders are trained, too."""
        return len(self.parts) > 1

    def parameters_of(self, part: str) -> "list[torch.nn.Parameter]":
        """Return the trained weights of a part."""
        return [parameter for parameter in self.parts[part].parameters() if parameter.requires_grad]

    def checkpoint_gradients(self) -> None:
        """Keep few activations of the UNet and compute the others again: less memory, a third more time."""
        self.unet.enable_gradient_checkpointing()

    def encode(self, captions: Sequence[str]) -> "tuple[torch.Tensor, torch.Tensor | None]":
        """Return [B, tokens, width], and [B, width] for SDXL, of captions: on the device, in the base's dtype."""
        import torch

        if self.trains_text:
            with self._autocast():
                return encode_captions(self._pipeline, list(captions))
        found = [self._texts[caption] for caption in captions]
        pooled = [text.pooled for text in found if text.pooled is not None]
        device, dtype = self._base.device, self._base.dtype
        tokens = to_device(torch.stack([text.tokens for text in found]), device).to(dtype)
        return tokens, to_device(torch.stack(pooled), device).to(dtype) if pooled else None

    def predict(
        self,
        noisy: "torch.Tensor",
        timesteps: "torch.Tensor",
        tokens: "torch.Tensor",
        pooled: "torch.Tensor | None" = None,
        time_ids: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Return what the UNet says of noisy latents and of what `encode` returned, [B, C, h, w].

        SDXL takes the pooled text and sizes (`time_ids`), too.
        """
        conditions = None if pooled is None else {"text_embeds": pooled, "time_ids": time_ids}
        with self._autocast():
            return self.unet(
                noisy.to(self._base.dtype, memory_format=self._memory_format),
                timesteps,
                encoder_hidden_states=tokens,
                added_cond_kwargs=conditions,
            ).sample

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """Let the networks be the base model's meanwhile, without gradients."""
        import torch

        for part in self.parts.values():
            part.disable_adapters()
        try:
            with torch.no_grad():
                yield
        finally:
            for part in self.parts.values():
                part.enable_adapters()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the networks into evaluation meanwhile, without gradients."""
        import torch

        for part in self.parts.values():
            part.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for part in self.parts.values():
                part.train()

    def state_dict(self) -> dict[str, Any]:
        """Return the adapters' weights by part, on their device."""
        from peft import get_peft_model_state_dict

        return {name: get_peft_model_state_dict(part, adapter_name=ADAPTER) for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the adapters' weights.

        Raises:
            ValueError: They are of other parts or modules.
        """
        from peft import set_peft_model_state_dict

        if state.keys() != self.parts.keys():
            raise ValueError(f"the saved adapter is of {', '.join(state)}, not of {', '.join(self.parts)}")
        for name, part in self.parts.items():
            result = set_peft_model_state_dict(part, state[name], adapter_name=ADAPTER)
            if result is not None and result.unexpected_keys:
                raise ValueError(f"the saved adapter has other modules, e.g. {result.unexpected_keys[0]}")

    def _autocast(self) -> AbstractContextManager[Any]:
        import torch

        if self._base.precision == "no":
            return nullcontext()
        # Every weight is cast once in a pass; a cast that is kept could not be recorded (`cuda_graphs`).
        return torch.autocast(self._base.device.partition(":")[0], self._base.dtype, cache_enabled=False)


def _add_adapter(part: Any, settings: TrainingSettings, targets: Sequence[str]) -> None:
    from peft import LoraConfig

    paths = [path for path, _ in part.named_modules()]
    unknown = [target for target in targets if not any(p == target or p.endswith(f".{target}") for p in paths)]
    if unknown:
        raise TargetModulesError(
            f"training.target_modules: the base model has no module {', '.join(unknown)}. Name modules of its UNet, "
            "e.g. to_q, to_k, to_v, to_out.0."
        )
    alpha = settings.network_alpha or float(settings.network_dim)
    config = LoraConfig(
        r=settings.network_dim,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]
        target_modules=list(targets),
        init_lora_weights=True,
    )
    try:
        part.add_adapter(config, adapter_name=ADAPTER)
    except ValueError as error:
        raise TargetModulesError(
            f"training.target_modules {', '.join(targets)}: {error}. Name modules of the base "
            "model's UNet, e.g. to_q, to_k, to_v, to_out.0."
        ) from error


def _prepare(part: Any, base: BaseModel) -> None:
    import torch
    from diffusers.training_utils import cast_training_params
    from peft.tuners.lora import LoraLayer

    with quiet_about_precision():
        part.to(base.device)
    cast_training_params(part, torch.float32)
    if base.precision != "no":
        # autocast casts the adapter's weights; peft would cast its inputs to fp32, for autocast to cast them back.
        for module in part.modules():
            if isinstance(module, LoraLayer):
                module.cast_input_dtype_enabled = False
    part.train()
