"""Students that are made from the part they are to stand for, by the names recipes use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnxcompress.clean import remove_unused
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Node, Variable
from onnxcompress.ir.sort import sort
from onnxcompress.pass_base import Context
from onnxcompress.students.activation import cheapen_activations
from onnxcompress.students.factorize import FACTORABLE, Factored, RankChoice, factor, why_not
from onnxcompress.students.narrow import cut_heads, cut_neurons
from onnxcompress.students.separable import separate_convolutions


@dataclass(frozen=True)
class Draft:
    """A student in the making.

    Attributes:
        part: a copy of the part; changed in place.
        edit: of it.
        context: services for the part, see `PartContext`; asked before the part is changed.
        amount: share to take away, of whatever the factory takes.
    """

    part: Model
    edit: Editor
    context: Context
    amount: float


Factory = Callable[[Draft], str | None]
"""Makes the part smaller; or says why there is nothing to make smaller."""


def make(part: Model, name: str, context: Context, amount: float) -> Model | str:
    """A student for a part.

    Args:
        part: as it was cut out; changed in place.
        name: one of `FACTORIES`.
        context: services for the part.
        amount: share to take away.

    Returns:
        The student, or why there is none.
    """
    edit = Editor(part)
    reason = FACTORIES[name](Draft(part, edit, context, amount))
    edit.finish()
    if reason is not None:
        return reason
    remove_unused(part, edit)
    sort(part.graph)
    part.graph.inputs[:] = [each for each in part.graph.inputs if _is_used(part, each)]
    return part


def _is_used(part: Model, tensor: Variable) -> bool:
    return bool(tensor.outputs) or part.is_output(tensor)


def _low_rank(draft: Draft) -> str | None:
    """Weights as products of two; `amount` of their parameters go."""
    choices: dict[Node, RankChoice] = {}
    nodes = draft.part.graph.nodes
    for node in query.nodes(draft.part, FACTORABLE):
        if why_not(draft.part, node, nodes) is None:
            choices[node] = RankChoice(ratio=1 - draft.amount)
    found = list(factor(draft.part, choices, draft.context))
    factored = [each for each in found if isinstance(each, Factored)]
    for each in factored:
        each.apply(draft.part, draft.edit)
    return None if factored else "no weight of the part is smaller as two factors"


def _identity(draft: Draft) -> str | None:
    """The first input of the output's type and shape, as it is: the part is dropped."""
    types = draft.context.types(draft.part)
    for output in list(draft.part.graph.outputs):
        alike = [
            each
            for each in draft.part.graph.inputs
            if each.name in types and types[each.name] == types.get(output.name)
        ]
        if not alike:
            return f"no input of the part has the type and shape of its output {output.name!r}"
        near = query.producer(output)
        assert isinstance(output, Variable) and near is not None
        passed = draft.edit.add("Identity", [alike[0]], near=near, base=output.name)
        draft.edit.redirect(output, passed)
    return None


def _narrow(draft: Draft) -> str | None:
    return cut_neurons(draft.part, draft.edit, draft.context, draft.amount)


def _fewer_heads(draft: Draft) -> str | None:
    return cut_heads(draft.part, draft.edit, draft.context, draft.amount)


def _separable(draft: Draft) -> str | None:
    return separate_convolutions(draft.part, draft.edit)


def _cheap_activation(draft: Draft) -> str | None:
    return cheapen_activations(draft.part, draft.edit)


FACTORIES: Mapping[str, Factory] = {
    "low-rank": _low_rank,
    "narrow": _narrow,
    "fewer-heads": _fewer_heads,
    "identity": _identity,
    "separable": _separable,
    "relu": _cheap_activation,
}
"""What a part can be replaced by, without a student of the user's."""
