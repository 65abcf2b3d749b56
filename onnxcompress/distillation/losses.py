"""How far a student's tensors are from what they should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from onnxcompress.distillation.lessons import Lesson
from onnxcompress.distillation.plan import Objective, OutputLoss
from onnxcompress.errors import DataError
from onnxcompress.ir import query
from onnxcompress.ir.model import Model, Tensor

_IGNORED = -100
"""A label that says nothing, as in PyTorch."""

_PASSING = frozenset({"Add", "Reshape", "Flatten", "Squeeze", "Identity", "Cast", "Transpose"})
"""What may stand between a product and the scores that it computes."""

_PRODUCTS = frozenset({"Gemm", "MatMul", "MatMulNBits", "FusedMatMul"})
_PROBABILITIES = frozenset({"Softmax", "LogSoftmax"})


@dataclass(frozen=True)
class Term:
    """A part of the objective: a tensor of the student, and the teacher's that it should be like.

    Attributes:
        student: name of the student's tensor.
        teacher: name of the teacher's.
        weight: what the distance is multiplied with.
        loss: how it is measured; not `auto`.
        logarithm: the tensor holds probabilities, whose logarithms are compared.
    """

    student: str
    teacher: str
    weight: float
    loss: OutputLoss
    logarithm: bool = False


def terms_of(objective: Objective, student: Model) -> list[Term]:
    """The parts of an objective that a teacher is needed for."""
    terms = []
    if objective.outputs:
        for output in student.graph.outputs:
            if output.dtype is not None and output.dtype.kind in "iubO":
                continue  # a class or a flag has no distance that could be made smaller
            loss = objective.loss
            if loss is OutputLoss.AUTO:
                scores = _looks_like_scores(output)
                loss = OutputLoss.DIVERGENCE if scores else OutputLoss.MSE
            logarithm = loss is OutputLoss.DIVERGENCE and holds_probabilities(output)
            terms.append(Term(output.name, output.name, objective.outputs, loss, logarithm))
    terms += [
        Term(match.student, match.teacher, match.weight, OutputLoss.MSE)
        for match in objective.matches
    ]
    return terms


def holds_probabilities(output: Tensor) -> bool:
    """Whether a tensor is made by a Softmax."""
    node = query.producer(output)
    return node is not None and node.op == "Softmax"


def _looks_like_scores(output: Tensor) -> bool:
    """Whether a tensor is made by a Softmax, or is [samples, classes] made by a product."""
    node = query.producer(output)
    if node is not None and node.op in _PROBABILITIES:
        return True
    if query.rank(output) not in (2, None) or (output.shape and output.shape[-1] == 1):
        return False
    while node is not None and node.op in _PASSING:
        computed = [each for each in node.inputs if query.producer(each) is not None]
        node = query.producer(computed[0]) if len(computed) == 1 else None
    return node is not None and node.op in _PRODUCTS


def real_rows(tensor: torch.Tensor, lesson: Lesson) -> torch.Tensor:
    """The rows of real samples, where a batch was filled up."""
    return tensor[: lesson.count] if lesson.filled and tensor.ndim else tensor


def divergence(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, *, logarithm: bool
) -> torch.Tensor:
    """KL(teacher || student) of the classes along the last axis, mean over the rest, times T^2."""
    if logarithm:
        student, teacher = (each.clamp_min(1e-12).log() for each in (student, teacher))
    target = functional.log_softmax(teacher / temperature, dim=-1)
    found = functional.log_softmax(student / temperature, dim=-1)
    pointwise = target.exp() * (target - found)
    return pointwise.sum(dim=-1).mean() * temperature**2


def relative_error(
    student: torch.Tensor, teacher: torch.Tensor, variance: torch.Tensor
) -> torch.Tensor:
    """Mean squared error over a variance."""
    return (student - teacher).square().mean() / variance


def label_loss(output: torch.Tensor, labels: torch.Tensor, *, logarithm: bool) -> torch.Tensor:
    """Cross entropy with integer labels, squared error with float ones.

    Args:
        output: [..., classes] for integer labels [...]; the labels' own shape for float ones.
        labels: a label of -100 counts for nothing.
        logarithm: `output` holds probabilities.

    Raises:
        DataError: the shapes do not fit.
    """
    if not labels.is_floating_point() and output.shape[:-1] == labels.shape:
        scores = output.clamp_min(1e-12).log() if logarithm else output
        classes = scores.shape[-1]
        return functional.cross_entropy(
            scores.reshape(-1, classes), labels.reshape(-1).long(), ignore_index=_IGNORED
        )
    if labels.is_floating_point() and output.shape == labels.shape:
        return (output - labels.to(output.dtype)).square().mean()
    raise DataError(
        f"labels {labels.dtype} {list(labels.shape)} do not fit the first output "
        f"{list(output.shape)}: a loss needs a class for each row of scores, or float labels of "
        "the output's shape; use the teacher's outputs alone (labels=0)"
    )


def total(
    terms: list[Term],
    objective: Objective,
    found: Mapping[str, torch.Tensor],
    targets: Mapping[str, torch.Tensor],
    variances: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """The weighted sum of all terms, labels left out.

    Args:
        terms: see `terms_of`.
        objective: lends the temperature.
        found: the student's tensors by name.
        targets: the teacher's by name.
        variances: of the teacher's tensors, over samples held out.
    """
    losses = []
    for term in terms:
        student, teacher = found[term.student], targets[term.teacher].to(found[term.student].dtype)
        if term.loss is OutputLoss.DIVERGENCE:
            value = divergence(student, teacher, objective.temperature, logarithm=term.logarithm)
        else:
            value = relative_error(student, teacher, variances[term.teacher])
        losses.append(term.weight * value)
    return torch.stack(losses).sum() if losses else torch.zeros(())
