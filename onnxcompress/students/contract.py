"""What a student must be like to stand for a part of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from onnxcompress.errors import ModelError
from onnxcompress.ir.model import Model, Shape, Tensor
from onnxcompress.ir.opset import require_opset
from onnxcompress.ir.sort import sort
from onnxcompress.ir.verify import verify
from onnxcompress.pass_base import TensorType
from onnxcompress.students.boundary import Boundary, domains


def fit(model: Model, boundary: Boundary, student: Model, types: Mapping[str, TensorType]) -> None:
    """Makes a student ready to be put in: sorted, in the model's opset, tensors named as there.

    Inputs and outputs go by name; where no name agrees, by their order.

    Args:
        model: what the part belongs to.
        boundary: the part.
        student: changed in place.
        types: of the model's tensors, for one sample.

    Raises:
        ModelError: it does not keep the contract; says everything that differs.
    """
    _rename(student.graph.inputs, [each.name for each in boundary.inputs[: boundary.asked]])
    _rename(student.graph.outputs, [each.name for each in boundary.outputs])
    faults = list(_faults(model, boundary, student, types))
    if faults:
        raise ModelError(f"the student does not fit: {'; '.join(faults)}")
    sort(student.graph)
    verify(student)
    require_opset(student, model.opset)
    order = {tensor.name: place for place, tensor in enumerate(boundary.outputs)}
    student.graph.outputs.sort(key=lambda tensor: order[tensor.name])


def _rename(tensors: Sequence[Tensor], wanted: Sequence[str]) -> None:
    names = {tensor.name for tensor in tensors}
    if names.isdisjoint(wanted) and len(tensors) == len(wanted):
        for tensor, name in zip(tensors, wanted, strict=True):
            tensor.name = name


def _faults(
    model: Model, boundary: Boundary, student: Model, types: Mapping[str, TensorType]
) -> Iterator[str]:
    inputs = {tensor.name for tensor in boundary.inputs}
    outputs = {tensor.name for tensor in boundary.outputs}
    for tensor in student.graph.inputs:
        if tensor.name not in inputs:
            yield f"the part has no input {tensor.name!r}; it has {', '.join(sorted(inputs))}"
    found = [tensor.name for tensor in student.graph.outputs]
    for name in sorted(outputs.difference(found)):
        yield f"it has no output {name!r}; it has {', '.join(found)}"
    for name in sorted(set(found).difference(outputs)):
        yield f"the part has no output {name!r}; it has {', '.join(sorted(outputs))}"
    for tensor in [*student.graph.inputs, *student.graph.outputs]:
        if tensor.name in types:
            yield from _type_faults(tensor, types[tensor.name])
    if student.opset > model.opset:
        yield (
            f"it is written in opset {student.opset}, the model in {model.opset}: export one of "
            "them again"
        )
    imported = domains(model)
    for domain, version in domains(student).items():
        if imported.get(domain, version) != version:
            yield (
                f"it imports version {version} of domain {domain!r}, the model version "
                f"{imported[domain]}"
            )
    if len(student.envelope.functions) > len(model.envelope.functions):
        yield "it defines functions of its own that are not in its opset: export it again in one"
    if student.graph.defaults:
        yield f"its input {next(iter(student.graph.defaults))!r} has a default, which is not kept"
    for node in student.graph.nodes:
        if any(node.bodies()):
            yield f"{node.op} {node.name!r} holds graphs, which are not put in"


def _type_faults(tensor: Tensor, wanted: TensorType) -> Iterator[str]:
    if tensor.dtype is not None and tensor.dtype != wanted.dtype:
        yield f"{tensor.name!r} is {tensor.dtype}, the model's is {wanted.dtype}"
    if tensor.shape is not None and not _agrees(tensor.shape, wanted.shape):
        yield f"{tensor.name!r} is {list(tensor.shape)}, the model's is {list(wanted.shape)}"


def _agrees(shape: Shape, wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(
        not isinstance(one, int) or one == other for one, other in zip(shape, wanted, strict=True)
    )
