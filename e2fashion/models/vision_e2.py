"""E2's vision transformer: CLIP's, with selection tokens in the sequence and fusion blocks between its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import CLIPPreTrainedModel, CLIPVisionModel, CLIPVisionModelOutput
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from e2fashion.models.configuration_e2 import E2VisionConfig
from e2fashion.models.last_layer import PLAIN_ATTENTION, layer_for_read_tokens
from e2fashion.models.loading import check_model_files, check_report, only_our_errors
from e2fashion.models.selection import FUSION_BLOCKS, Fusion, FusionBlock, NoiseSource, SelectionNoise, SelectionTokens
from e2fashion.models.selection_tokens import RegionHead, SubPatches, TokenGates, ValueWindow, hide_image_from_tokens


@dataclass
class E2VisionOutput(BaseModelOutputWithPooling):
    """CLIP's vision output and that of the selection tokens.

    ``last_hidden_state`` is (B, 1 + S, D), CLS and the selection tokens, once a fusion block has dropped the patches,
    and (B, 1 + P + S, D) where none does. ``token_states`` (B, S, D) are the selection tokens at the end;
    ``patch_states`` (B, P, D) the last patch states there are: the last layer's, or those that the last fusion block
    read (None where the last layer ran without them and no block read any). ``selection_maps`` (B, F, S, P), on
    request: noise-free probabilities per fusion block; ``selected_patches`` (B, F, S, k) int64, with them: what each
    token really read, best first, -1 for the null patch. ``region_features`` (B, E, C), not normalized: set by the
    models that have region heads.
    """

    token_states: Tensor | None = None
    patch_states: Tensor | None = None
    selection_maps: Tensor | None = None
    selected_patches: Tensor | None = None
    region_features: Tensor | None = None


@dataclass
class LocalVisionOutput(E2VisionOutput):
    """E2's vision output, then ``local_features`` (B, P, C), not normalized: the projected patches, for losses and
    scores that compare each of them with texts."""

    local_features: Tensor | None = None


@dataclass
class E2VisionModelOutput(CLIPVisionModelOutput):
    """CLIP's projected vision output, then ``region_features`` (B, E, C), ``selection_maps`` (B, F, S, P) and
    ``selected_patches`` (B, F, S, k). As in CLIP's class, ``image_embeds`` are *not* normalized; nor are the regions.
    """

    region_features: Tensor | None = None
    selection_maps: Tensor | None = None
    selected_patches: Tensor | None = None


class RegionalInitialization(CLIPPreTrainedModel):
    """Initialization of the parameters that CLIP lacks (ours; the scale of CLIP's class token and projections).

    ``from_pretrained`` builds on the meta device, so every raw parameter must be set here.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *arguments: Any, **options: Any) -> Any:
        """As in Transformers, but refuses weights that do not match the architecture instead of random initialization.

        With ``output_loading_info=True`` nothing is refused, since the caller can check the report.

        Raises:
            E2FashionError: tensors that are missing, of another shape, unknown or not finite, or files that cannot be
                read. :meth:`E2Model.from_clip` initializes what a CLIP lacks.
        """
        load: Any = super().from_pretrained
        if options.get("output_loading_info"):
            return load(pretrained_model_name_or_path, *arguments, **options)
        what = f"model '{pretrained_model_name_or_path}'"
        with only_our_errors(what):
            model, report = load(
                pretrained_model_name_or_path,
                *arguments,
                **{"ignore_mismatched_sizes": True, "trust_remote_code": False, **options, "output_loading_info": True},
            )
        if options.get("ignore_mismatched_sizes"):
            report = {**report, "mismatched_keys": []}
        check_report(model, report, what)
        check_model_files(str(pretrained_model_name_or_path))
        return model

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: all values are set through Transformers' guarded functions, as in CLIP.

        For custom code Transformers skips modules without direct parameters, which would leave CLIP's attention and
        MLP, and our fusion blocks, with the default scale.
        """
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        factor = float(self.config.initializer_factor or 1.0)
        if isinstance(module, SelectionTokens):
            for tokens in module.parameters():
                init.normal_(tokens, std=tokens.shape[-1] ** -0.5 * factor)
        elif isinstance(module, FusionBlock):
            for weight in module.parameters():
                if weight.ndim:
                    init.normal_(weight, std=weight.shape[-1] ** -0.5 * factor)
                else:
                    init.constant_(weight, float(module.value_gate or 0.0))
        elif isinstance(module, SubPatches):
            init.normal_(module.convolution.weight, std=module.convolution.weight[0].numel() ** -0.5 * factor)
        elif isinstance(module, ValueWindow):
            init.dirac_(module.convolution.weight, groups=module.convolution.groups)
        elif isinstance(module, TokenGates):
            init.constant_(module.bias, module.start)
        elif isinstance(module, RegionHead):
            init.normal_(module.projection.weight, std=module.projection.in_features**-0.5 * factor)


class E2VisionModel(RegionalInitialization, CLIPVisionModel):
    """CLIP's vision model with selection tokens and fusion blocks; without entities it is CLIP's.

    The sequence is CLS, patches, selection tokens: CLS is first because callers slice ``[:, 0]``. The selection tokens
    have no position and pass the pre-LayerNorm like the others (official code). For images of another size than the
    configuration's the position embeddings are interpolated.
    """

    config: E2VisionConfig
    config_class = E2VisionConfig

    #: Number of states before the patches: CLS.
    leading: ClassVar[int] = 1

    def __init__(self, config: E2VisionConfig) -> None:
        super().__init__(config)
        entities = config.entity_list
        self.token_count = sum(entity.tokens for entity in entities)
        if self.token_count:
            self.selection_tokens = SelectionTokens(entities, config.hidden_size)
        self.fusion_blocks = nn.ModuleDict(
            {str(layer): FUSION_BLOCKS[config.selection](config, layer) for layer in config.active_fusion_layers}
        )
        self.token_gates = TokenGates(config) if self.token_count and config.token_gate is not None else None
        self.sub_patches = SubPatches(config) if self.token_count and config.value_scale > 1 else None
        self.value_window = ValueWindow(config) if self.token_count and config.value_window > 1 else None
        self.selection_noise = SelectionNoise()
        self.post_init()

    def seed_selection_noise(self, *key: int) -> None:
        """Draw the noise of training from ``key`` (such as seed, step and rank) instead of PyTorch's global generator.

        Call it before a step to make that step's noise repeatable; without numbers the global generator is used again.
        """
        self.selection_noise.seed(*key)

    def set_selection_temperature(self, temperature: float) -> None:
        """Change the temperature of every fusion block, and of the configuration, which is saved with the model."""
        self.config.selection_temperature = temperature
        for block in self.fusion_blocks.values():
            cast(FusionBlock, block).temperature = temperature

    def embed(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """The input of the first layer: (B, 3, H, W) to (B, 1 + P + S, D)."""
        size = self.config.image_size
        interpolate = interpolate_pos_encoding or pixel_values.shape[-2:] != (size, size)
        states = self.embeddings(pixel_values, interpolate_pos_encoding=interpolate)
        if self.token_count:
            states = torch.cat([states, self.selection_tokens(states.shape[0]).to(states.dtype)], dim=1)
        return self.pre_layrnorm(states)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Tensor | None = None,
        interpolate_pos_encoding: bool | None = False,
        output_selection_maps: bool = False,
        complete_states: bool = True,
        **kwargs: Any,
    ) -> E2VisionOutput:
        """Encode images (B, 3, H, W).

        With ``complete_states=False`` the last layer is computed only for CLS and the selection tokens, as if a fusion
        block had dropped the patches before it: the same ``pooler_output`` and ``token_states`` at lower cost.
        """
        if pixel_values is None:
            raise ValueError("You have to specify pixel_values")
        states = self.embed(pixel_values, bool(interpolate_pos_encoding))
        first, patches_end = self.leading, states.shape[1] - self.token_count  # CLS and patches come before its end
        noise = self._noise(states.device)
        if self.config._attn_implementation not in PLAIN_ATTENTION:
            complete_states = True

        def read(sequence: Tensor) -> Tensor:
            return torch.cat([sequence[:, :first], sequence[:, patches_end:]], dim=1)

        def read_rows(bias: Tensor) -> Tensor:
            return torch.cat([bias[:, :, :first], bias[:, :, patches_end:]], dim=2)

        fusions: list[Fusion] = []
        patches: Tensor | None = None
        values = self._values(states[:, first:patches_end], pixel_values) if self.config.value_layer == 0 else None
        parts = None if self.sub_patches is None else self.sub_patches(pixel_values)
        only_tokens = self.token_count > 0 and self.config.token_attention == "own"
        # One for all layers: up to the last fusion block they have the same sequence.
        hidden = hide_image_from_tokens(states, self.token_count) if only_tokens else None
        for number, layer in enumerate(self.encoder.layers, start=1):
            left = len(self.fusion_blocks) - len(fusions)
            bias = self._attention_bias(number, states, hidden if left else None)
            dropped = states.shape[1] < patches_end + self.token_count
            if number == len(self.encoder.layers) and not (left or dropped or complete_states):
                states = layer_for_read_tokens(layer, states, read, bias=None if bias is None else read_rows(bias))
                return self._pooled(states, patches, fusions, output_selection_maps)
            states = layer(states, bias, **kwargs)
            if number == self.config.value_layer:
                values = self._values(states[:, first:patches_end], pixel_values)
            if str(number) not in self.fusion_blocks:
                continue
            patches = states[:, first:patches_end]
            fusions.append(
                self.fusion_blocks[str(number)](
                    states[:, patches_end:],
                    patches,
                    noise=noise,
                    output_probabilities=output_selection_maps,
                    values=values,
                    parts=parts,
                )
            )
            # Official: the patches are not used after the last block.
            kept = first if left == 1 and self.config.drop_patches else patches_end
            states = torch.cat([states[:, :kept], fusions[-1].tokens], dim=1)
        if states.shape[1] == patches_end + self.token_count:
            patches = states[:, first:patches_end]
        return self._pooled(states, patches, fusions, output_selection_maps)

    def pool(self, states: Tensor, patches: Tensor | None) -> Tensor:
        """The image's feature (B, D) from the final states (B, T, D): CLS, normalized.

        ``patches`` (B, P, D) are those of the output, for subclasses that pool them.
        """
        del patches
        return self.post_layernorm(states[:, 0])

    def _values(self, patches: Tensor, pixel_values: Tensor) -> Tensor:
        """What tokens read of patch states (B, P, D): these, or mixtures of their windows."""
        if self.value_window is None:
            return patches
        values: Tensor = self.value_window(patches, pixel_values.shape[-1] // cast(int, self.config.patch_size))
        return values

    def _attention_bias(self, number: int, states: Tensor, hidden: Tensor | None) -> Tensor | None:
        """What layer ``number`` adds to its attention scores, (1, H or 1, T, T): ``hidden`` and gates, or None."""
        if self.token_gates is None:
            return hidden
        gate: Tensor = self.token_gates(number, states)
        return gate if hidden is None else gate + hidden

    def _noise(self, device: torch.device) -> NoiseSource | None:
        if not (self.training and self.config.noise == "gumbel" and len(self.fusion_blocks)):
            return None
        return self.selection_noise.source(device)

    def _pooled(
        self, states: Tensor, patches: Tensor | None, fusions: list[Fusion], output_selection_maps: bool
    ) -> E2VisionOutput:
        """The output for final states that end with the selection tokens."""
        maps, selected = None, None
        if output_selection_maps and fusions:
            maps = torch.stack([fusion.probabilities for fusion in fusions if fusion.probabilities is not None], 1)
            selected = torch.stack([fusion.selected for fusion in fusions], 1)
        return E2VisionOutput(
            last_hidden_state=states,
            pooler_output=self.pool(states, patches),
            token_states=states[:, states.shape[1] - self.token_count :],
            patch_states=patches,
            selection_maps=maps,
            selected_patches=selected,
        )
