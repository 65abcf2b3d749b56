"""What makes weights small, and whole units of them zero, while they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from onnxcompress.distillation.parameters import Parameter
from onnxcompress.distillation.plan import Penalty
from onnxcompress.ir.model import Constant


def penalty(asked: Penalty, parameters: Sequence[Parameter]) -> torch.Tensor:
    """What is added to the objective; see `plan.Penalty`."""
    masters = {each.constant: each.master for each in parameters}
    terms: list[torch.Tensor] = []
    weights = [masters[each] for each in asked.weights if each in masters]
    elements = sum(each.numel() for each in weights)
    if asked.l1 and elements:
        terms.append(
            asked.l1 * torch.stack([each.abs().sum() for each in weights]).sum() / elements
        )
    if asked.l2 and elements:
        squares = torch.stack([each.square().sum() for each in weights]).sum()
        terms.append(asked.l2 * squares / elements)
    if asked.group_lasso and asked.slices:
        terms.append(asked.group_lasso * _group_lasso(asked, masters))
    return torch.stack(terms).sum() if terms else torch.zeros(())


def _group_lasso(asked: Penalty, masters: Mapping[Constant, torch.Tensor]) -> torch.Tensor:
    """The mean over units of |w| / sqrt(size)."""
    count = 1 + max(int(each.units.max()) for each in asked.slices)
    squares = torch.zeros(count)
    sizes = torch.zeros(count)
    for each in asked.slices:
        if each.constant not in masters:
            continue
        master = masters[each.constant]
        rows = master.movedim(each.axis, 0).reshape(master.shape[each.axis], -1)
        chosen = torch.from_numpy(each.units >= 0)
        units = torch.from_numpy(each.units)[chosen].long()
        squares = squares.index_add(0, units, rows.square().sum(dim=1)[chosen])
        sizes = sizes.index_add(0, units, torch.full_like(units, rows.shape[1], dtype=sizes.dtype))
    there = sizes > 0
    # The gradient of a root is endless at zero, where units that were pruned are.
    norms = (squares[there] + 1e-12).sqrt() / sizes[there].sqrt()
    return norms.mean()
