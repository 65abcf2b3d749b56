"""Losses that are part of a graph.

Source: ONNX NegativeLogLikelihoodLoss (opset 13), SoftmaxCrossEntropyLoss (opset 13).
"""

from __future__ import annotations

import torch

from onnxcompress.distillation.call import Call, Table


def _negative_log_likelihood(
    call: Call,
    log_likelihoods: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    target, counts = target.long(), torch.ones_like(log_likelihoods[:, 0])
    if call.has("ignore_index"):
        ignored = target == call.integer("ignore_index", 0)
        target = torch.where(ignored, 0, target)
        counts = counts * ~ignored
    if weight is not None:
        counts = counts * weight[target]
    losses = -log_likelihoods.gather(1, target.unsqueeze(1)).squeeze(1) * counts
    reduction = call.text("reduction", "mean")
    if reduction == "none":
        return losses
    return losses.sum() / counts.sum() if reduction == "mean" else losses.sum()


def _softmax_cross_entropy(
    call: Call, scores: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    log_likelihoods = torch.log_softmax(scores, 1)
    return _negative_log_likelihood(call, log_likelihoods, target, weight), log_likelihoods


TABLE: Table = {
    "NegativeLogLikelihoodLoss": _negative_log_likelihood,
    "SoftmaxCrossEntropyLoss": _softmax_cross_entropy,
}
