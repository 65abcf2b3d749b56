"""Encoder-decoder models of text and speech, whole and their halves; speech encoders."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from benchmarks.zoo.inputs import Input
from benchmarks.zoo.specimen import IDS, MASK, VOCABULARY, from_config

_STATES = "last_hidden_state"
_ANSWER = Input("decoder_input_ids", ("batch", "sequence"), tokens=VOCABULARY)
_ANSWERED = Input("decoder_attention_mask", ("batch", "sequence"), mask=True)
_WAVE = Input("input_values", ("batch", 3200))
_MEL = Input("input_features", ("batch", 40, 64))
_ENCODED = Input("encoder_hidden_states", ("batch", "past", 128))
_PATCHES = Input("input_values", ("batch", 64, 40))

_T5: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "d_model": 128,
    "d_kv": 16,
    "d_ff": 512,
    "num_layers": 2,
    "num_heads": 8,
    "attn_implementation": "eager",
}
_BART: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
_WHISPER: Final[dict[str, Any]] = {
    **_BART,
    "num_mel_bins": 40,
    "max_source_positions": 32,
    "max_target_positions": 64,
    "begin_suppress_tokens": None,
}
_WAVE_SIZE: Final[dict[str, Any]] = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "intermediate_size": 512,
    "conv_dim": (64, 64, 64),
    "conv_stride": (5, 4, 4),
    "conv_kernel": (10, 4, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}

_text = partial(from_config, family="encoder-decoders", options={"use_cache": False})
_speech = partial(from_config, family="speech")

SEQUENCES: Final = (
    from_config(
        "t5-encoder", "T5EncoderModel", (IDS, MASK), _STATES, family="encoder-decoders", **_T5
    ),
    _text("t5", "T5ForConditionalGeneration", (IDS, MASK, _ANSWER), "logits", **_T5),
    _text(
        "t5-gated",
        "T5ForConditionalGeneration",
        (IDS, MASK, _ANSWER),
        "logits",
        **_T5,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    ),
    _text("bart", "BartForConditionalGeneration", (IDS, MASK, _ANSWER), "logits", **_BART),
    _text("marian", "MarianMTModel", (IDS, MASK, _ANSWER), "logits", **_BART),
    _text("pegasus", "PegasusForConditionalGeneration", (IDS, MASK, _ANSWER), "logits", **_BART),
    _text(
        "trocr-decoder",
        "TrOCRForCausalLM",
        (IDS, MASK, _ENCODED),
        "logits",
        vocab_size=VOCABULARY,
        d_model=128,
        decoder_layers=2,
        decoder_attention_heads=8,
        decoder_ffn_dim=512,
        max_position_embeddings=64,
        cross_attention_hidden_size=128,
        is_decoder=True,
    ),
    _speech(
        "whisper",
        "WhisperForConditionalGeneration",
        (_MEL, _ANSWER, _ANSWERED),
        "logits",
        **_WHISPER,
        options={"use_cache": False},
    ),
    _speech("wav2vec2", "Wav2Vec2ForCTC", (_WAVE,), "logits", **_WAVE_SIZE),
    _speech(
        "wav2vec2-stable",
        "Wav2Vec2ForCTC",
        (_WAVE,),
        "logits",
        **_WAVE_SIZE,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
        conv_bias=True,
    ),
    _speech("hubert", "HubertForCTC", (_WAVE,), "logits", **_WAVE_SIZE),
    _speech("wavlm", "WavLMModel", (_WAVE,), _STATES, **_WAVE_SIZE, num_buckets=32),
    _speech("data2vec-audio", "Data2VecAudioModel", (_WAVE,), _STATES, **_WAVE_SIZE),
    _speech(
        "ast",
        "ASTForAudioClassification",
        (_PATCHES,),
        "logits",
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=8,
        intermediate_size=512,
        num_mel_bins=40,
        max_length=64,
        patch_size=8,
        frequency_stride=8,
        time_stride=8,
    ),
)
