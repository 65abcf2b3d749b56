"""A BERT sentence encoder with a linear head. Imports torch: import it from inside a builder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from transformers import BertConfig, BertModel

from benchmarks.subjects.errors import SubjectError
from benchmarks.subjects.subject import Samples

_BATCH = 32
# Embeddings have length 1, so scikit-learn's default C=1 would shrink the head too far.
_INVERSE_REGULARIZATION = 10.0
# In the file, but not part of the sentence encoder.
_UNUSED = ("pooler.", "embeddings.position_ids")


class SentenceClassifier(torch.nn.Module):
    """int64 (batch, sequence) ids, mask and token types -> float32 (batch, classes) logits."""

    def __init__(self, encoder: BertModel, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = torch.nn.Linear(encoder.config.hidden_size, classes)

    def embed(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """The mean of the token vectors under the mask, scaled to length 1: (batch, hidden)."""
        hidden = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weight).sum(1) / torch.clamp(weight.sum(1), min=1e-9)
        return torch.nn.functional.normalize(mean, p=2.0, dim=1)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """The class scores of each sentence."""
        logits: torch.Tensor = self.classifier(
            self.embed(input_ids, attention_mask, token_type_ids)
        )
        return logits


def load(package: Path, *, classes: int) -> SentenceClassifier:
    """The encoder in a folder of ``config.json`` and ``model.safetensors``, with a blank head."""
    # "eager": attention as MatMul, Softmax, MatMul; the fused form would not export so.
    config = BertConfig.from_json_file(package / "config.json")
    config._attn_implementation = "eager"
    encoder = BertModel(config, add_pooling_layer=False)
    weights = load_file(package / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith(_UNUSED)}
    result = encoder.load_state_dict(kept, strict=False)
    wrong = [*result.missing_keys, *result.unexpected_keys]
    if any(not name.startswith(_UNUSED) for name in wrong):
        raise SubjectError(f"{package}: weights do not fit BertModel: {', '.join(wrong)}")
    return SentenceClassifier(encoder, classes).eval()


def fit_head(module: SentenceClassifier, samples: Samples, *, seed: int) -> None:
    """Set the linear head to a logistic regression on the samples' embeddings."""
    regression = LogisticRegression(
        C=_INVERSE_REGULARIZATION, max_iter=1000, random_state=seed
    ).fit(_embeddings(module, samples), samples.labels)
    with torch.no_grad():
        module.classifier.weight.copy_(torch.from_numpy(regression.coef_))
        module.classifier.bias.copy_(torch.from_numpy(regression.intercept_))


def _embeddings(module: SentenceClassifier, samples: Samples) -> np.ndarray:
    """float32 (samples, hidden), in the order of the samples."""
    lengths = samples.inputs["attention_mask"].sum(axis=1)
    result = np.empty((len(samples), module.classifier.in_features), dtype=np.float32)
    # Batches of like length, without their common padding: the same numbers in half the time.
    order = np.argsort(lengths, kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            longest = int(lengths[rows].max())
            feeds = {
                name: torch.from_numpy(array[rows, :longest])
                for name, array in samples.inputs.items()
            }
            result[rows] = module.embed(**feeds).numpy()
    return result
