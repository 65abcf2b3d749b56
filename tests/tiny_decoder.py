"""A language model of two layers with random weights, exported like the real one, and some text."""

from pathlib import Path

import numpy as np

from benchmarks.subjects.smollm2 import samples

VOCABULARY = 40
LENGTH = 12


def write(folder: Path) -> None:
    """Writes `model.onnx`, and `data.npz` of 24 windows with an empty past."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from benchmarks.subjects.decoder_export import cache_inputs, export_decoder

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config).eval()
    for weight in model.parameters():
        # As transformers draws them, all tokens are about as likely.
        weight.data *= 8 if weight.ndim == 2 else 1
    export_decoder(model, folder / "model.onnx")
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (24, LENGTH + 1))
    np.savez(folder / "data.npz", **samples(tokens, cache_inputs(model)).arrays())
