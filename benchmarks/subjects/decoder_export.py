"""A causal language model of transformers -> ONNX with its key-value cache as inputs and outputs.

Imports torch: import it from inside a builder.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import DynamicCache, LlamaForCausalLM
from transformers.cache_utils import DynamicLayer

from benchmarks.subjects.export import OUTPUT, export

_SEED = 0


class CachedDecoder(torch.nn.Module):
    """Tokens and what is cached of those before them -> logits and the longer cache.

    Takes int64 ``input_ids`` (batch, sequence), ``attention_mask`` (batch, past + sequence) and
    ``position_ids`` (batch, sequence), then a key and a value for each layer, float32 (batch,
    heads, past, head size). Gives logits (batch, sequence, vocabulary), then keys and values with
    past + sequence positions.
    """

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        *past: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Everything in the order of the class's description."""
        cache = DynamicCache()
        for layer, (key, value) in enumerate(zip(past[::2], past[1::2], strict=True)):
            cache.update(key, value, layer)
        result = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        present: list[torch.Tensor] = []
        for held in cache.layers:
            assert isinstance(held, DynamicLayer)
            assert held.keys is not None and held.values is not None
            present += [held.keys, held.values]
        return (result.logits, *present)


def cache_inputs(model: LlamaForCausalLM) -> dict[str, tuple[int, int]]:
    """Heads and head size of each input of the past, in order."""
    config = model.config
    assert config.num_key_value_heads is not None and config.head_dim is not None
    shape = config.num_key_value_heads, config.head_dim
    return {
        f"past_key_values.{layer}.{part}": shape
        for layer in range(config.num_hidden_layers)
        for part in ("key", "value")
    }


def export_decoder(model: LlamaForCausalLM, path: Path) -> None:
    """Write the decoder, checked on a prompt without a past and on a step with one."""
    past = list(cache_inputs(model))
    present = [name.replace("past_key_values", "present") for name in past]
    tokens = {0: "batch", 1: "sequence"}
    export(
        CachedDecoder(model),
        _example(model, batch=2, length=5, cached=3),
        [
            _example(model, batch=1, length=9, cached=0),
            _example(model, batch=3, length=1, cached=7),
        ],
        path,
        dynamic_axes={
            "input_ids": tokens,
            "attention_mask": {0: "batch", 1: "past_sequence + sequence"},
            "position_ids": tokens,
            OUTPUT: tokens,
            **{name: {0: "batch", 2: "past_sequence"} for name in past},
            **{name: {0: "batch", 2: "past_sequence + sequence"} for name in present},
        },
        outputs=(OUTPUT, *present),
    )


def _example(
    model: LlamaForCausalLM, *, batch: int, length: int, cached: int
) -> dict[str, torch.Tensor]:
    """Random inputs by name, in the order of the decoder's arguments."""
    random = torch.Generator().manual_seed(_SEED)
    tokens = torch.randint(model.config.vocab_size, (batch, length), generator=random)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones(batch, cached + length, dtype=torch.int64),
        "position_ids": torch.arange(cached, cached + length).repeat(batch, 1),
        **{
            name: torch.randn(batch, heads, cached, size, generator=random)
            for name, (heads, size) in cache_inputs(model).items()
        },
    }
