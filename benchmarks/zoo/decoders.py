"""Language models, without and with what they keep of the tokens before."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from torch import Tensor, nn

from benchmarks.zoo.inputs import Input
from benchmarks.zoo.specimen import IDS, MASK, VOCABULARY, FromConfig, Specimen, from_config

_LAYERS, _HEADS, _WIDTH = 2, 8, 128

_LLAMA: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "hidden_size": _WIDTH,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "intermediate_size": 352,
    "max_position_embeddings": 64,
}
_SHARED: Final[dict[str, Any]] = {**_LLAMA, "num_key_value_heads": 4, "head_dim": 16}
_GPT2: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "n_embd": _WIDTH,
    "n_layer": _LAYERS,
    "n_head": _HEADS,
    "n_positions": 64,
}

_decoder = partial(from_config, family="decoders", options={"use_cache": False})
_llama_like = partial(_decoder, **_LLAMA)
_shared = partial(_decoder, **_SHARED)


class _WithPast(nn.Module):
    """Takes and gives keys and values, [batch, heads, past, size] each, layer by layer."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Tensor, mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Scores, then keys and values of what was read so far."""
        from transformers import DynamicCache

        cache: Any = DynamicCache()
        for layer in range(_LAYERS):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        found = self.inner(
            input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=True
        )
        kept = [each for layer in cache.layers for each in (layer.keys, layer.values)]
        return found.logits, *kept


def _with_past(name: str, model: str, heads: int, **config: Any) -> Specimen:
    plain = FromConfig(model=model, config=config, inputs=(), outputs=())
    parts = [f"{layer}.{part}" for layer in range(_LAYERS) for part in ("key", "value")]
    cache = ("batch", heads, "past", _WIDTH // _HEADS)
    return Specimen(
        name=name,
        family="decoders",
        create=lambda: _WithPast(plain().get_submodule("inner")),
        inputs=(
            IDS,
            Input("attention_mask", ("batch", "total"), mask=True),
            *(Input(f"past_key_values.{part}", cache) for part in parts),
        ),
        outputs=("logits", *(f"present.{part}" for part in parts)),
    )


DECODERS: Final = (
    _decoder("gpt2", "GPT2LMHeadModel", (IDS, MASK), "logits", **_GPT2),
    _with_past("gpt2-past", "GPT2LMHeadModel", _HEADS, **_GPT2),
    _decoder(
        "gpt-neo",
        "GPTNeoForCausalLM",
        (IDS, MASK),
        "logits",
        vocab_size=VOCABULARY,
        hidden_size=_WIDTH,
        num_layers=2,
        num_heads=_HEADS,
        max_position_embeddings=64,
        attention_types=[[["global", "local"], 1]],
        window_size=8,
    ),
    _decoder("gpt-j", "GPTJForCausalLM", (IDS, MASK), "logits", **_GPT2, rotary_dim=8),
    _llama_like("gpt-neox", "GPTNeoXForCausalLM", (IDS, MASK), "logits"),
    _shared("llama", "LlamaForCausalLM", (IDS, MASK), "logits"),
    _with_past("llama-past", "LlamaForCausalLM", 4, **_SHARED),
    _shared("mistral", "MistralForCausalLM", (IDS, MASK), "logits", sliding_window=8),
    _shared("qwen2", "Qwen2ForCausalLM", (IDS, MASK), "logits", tie_word_embeddings=True),
    _shared("qwen3", "Qwen3ForCausalLM", (IDS, MASK), "logits"),
    _shared("gemma", "GemmaForCausalLM", (IDS, MASK), "logits"),
    _shared("gemma2", "Gemma2ForCausalLM", (IDS, MASK), "logits", sliding_window=8),
    _shared("phi", "PhiForCausalLM", (IDS, MASK), "logits"),
    _shared("phi3", "Phi3ForCausalLM", (IDS, MASK), "logits", pad_token_id=0),
    _decoder(
        "opt",
        "OPTForCausalLM",
        (IDS, MASK),
        "logits",
        vocab_size=VOCABULARY,
        hidden_size=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=_HEADS,
        ffn_dim=512,
        max_position_embeddings=64,
        word_embed_proj_dim=_WIDTH,
    ),
    _decoder(
        "bloom",
        "BloomForCausalLM",
        (IDS, MASK),
        "logits",
        vocab_size=VOCABULARY,
        hidden_size=_WIDTH,
        n_layer=2,
        n_head=_HEADS,
    ),
    _decoder(
        "falcon",
        "FalconForCausalLM",
        (IDS, MASK),
        "logits",
        vocab_size=VOCABULARY,
        hidden_size=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=_HEADS,
    ),
)
