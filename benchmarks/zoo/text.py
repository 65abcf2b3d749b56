"""Encoders of text, and of text with boxes."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from benchmarks.zoo.inputs import Input
from benchmarks.zoo.specimen import IDS, MASK, VOCABULARY, from_config

_TYPES = Input("token_type_ids", ("batch", "sequence"), tokens=2)
_BOXES = Input("bbox", ("batch", "sequence", 4), tokens=60, rising=True)
_STATES = "last_hidden_state"

_SIZE: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "intermediate_size": 512,
    "max_position_embeddings": 64,
}

_encoder = partial(from_config, family="text encoders")
_sized = partial(_encoder, **_SIZE)

TEXT_ENCODERS: Final = (
    _sized("bert", "BertForSequenceClassification", (IDS, MASK, _TYPES), "logits"),
    _encoder(
        "distilbert",
        "DistilBertForSequenceClassification",
        (IDS, MASK),
        "logits",
        vocab_size=VOCABULARY,
        dim=128,
        n_layers=2,
        n_heads=8,
        hidden_dim=512,
        max_position_embeddings=64,
    ),
    _sized("roberta", "RobertaForMaskedLM", (IDS, MASK), "logits"),
    _sized("albert", "AlbertModel", (IDS, MASK), _STATES, embedding_size=64),
    _sized(
        "deberta",
        "DebertaModel",
        (IDS, MASK),
        _STATES,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
    ),
    _sized(
        "deberta-v2",
        "DebertaV2Model",
        (IDS, MASK),
        _STATES,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        position_buckets=16,
        share_att_key=True,
    ),
    _sized("electra", "ElectraForTokenClassification", (IDS, MASK), "logits", embedding_size=64),
    _sized("mpnet", "MPNetModel", (IDS, MASK), _STATES),
    _sized(
        "modernbert",
        "ModernBertModel",
        (IDS, MASK),
        _STATES,
        pad_token_id=0,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _sized(
        "esm",
        "EsmModel",
        (IDS, MASK),
        _STATES,
        pad_token_id=1,
        mask_token_id=4,
        position_embedding_type="rotary",
    ),
    _sized("squeezebert", "SqueezeBertModel", (IDS, MASK), _STATES, embedding_size=128),
    _sized(
        "mobilebert",
        "MobileBertModel",
        (IDS, MASK),
        _STATES,
        embedding_size=64,
        intra_bottleneck_size=64,
        true_hidden_size=64,
    ),
    _sized(
        "layoutlm", "LayoutLMModel", (IDS, _BOXES, MASK), _STATES, max_2d_position_embeddings=64
    ),
)
