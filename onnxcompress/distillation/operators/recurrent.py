"""Recurrent networks.

Torch's own kernels where they compute the same; else a loop over time. Gates come in ONNX's order:
input, output, forget, cell; update, reset, hidden.

Source: ONNX LSTM, GRU, RNN (opset 22).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Table

Activation = Callable[[torch.Tensor], torch.Tensor]
States = tuple[torch.Tensor, ...]
Step = Callable[[torch.Tensor, States], States]

_PLAIN: dict[str, Activation] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softsign": functional.softsign,
    "softplus": functional.softplus,
}

_TORCH_LSTM = (0, 2, 3, 1)
"""Torch's gates (input, forget, cell, output) among ONNX's."""

_TORCH_GRU = (1, 0, 2)
"""Torch's gates (reset, update, hidden) among ONNX's."""


@dataclass(frozen=True)
class _Layer:
    """A node's tensors, time first.

    Attributes:
        x: [time, batch, features].
        w: [directions, gates * hidden, features].
        r: [directions, gates * hidden, hidden].
        b: [directions, 2 * gates * hidden], or None.
        lengths: [batch], how many steps each sequence has; None if all are full.
        states: what it starts from, each [directions, batch, hidden].
    """

    x: torch.Tensor
    w: torch.Tensor
    r: torch.Tensor
    b: torch.Tensor | None
    lengths: torch.Tensor | None
    states: States

    @property
    def hidden(self) -> int:
        return self.r.shape[-1]

    def biases(self, direction: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of the input and of the state, each [gates * hidden]."""
        if self.b is None:
            none = self.x.new_zeros(self.w.shape[1])
            return none, none
        of_input, of_state = self.b[direction].chunk(2)
        return of_input, of_state


def _layer(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None,
    lengths: torch.Tensor | None,
    starts: Sequence[torch.Tensor | None],
) -> _Layer:
    batch_first = call.integer("layout", 0)
    if batch_first:
        x = x.transpose(0, 1)
        starts = [None if start is None else start.transpose(0, 1) for start in starts]
    if lengths is not None and bool((lengths == x.shape[0]).all()):
        lengths = None
    shape = (w.shape[0], x.shape[1], r.shape[-1])
    states = tuple(x.new_zeros(shape) if start is None else start for start in starts)
    return _Layer(x, w, r, b, lengths, states)


def _backwards(call: Call) -> tuple[bool, ...]:
    """For each direction whether it reads time backwards."""
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    return directions[call.text("direction", "forward").lower()]


def _activations(call: Call, defaults: Sequence[str]) -> list[list[Activation]]:
    """The activations of each direction."""
    directions = len(_backwards(call))
    names = [name.lower() for name in call.texts("activations", tuple(defaults) * directions)]
    for name in names:
        if name not in _PLAIN:
            raise call.unsupported(f"activation {name}; supported: {', '.join(_PLAIN)}")
    count = len(defaults)
    return [
        [_PLAIN[name] for name in names[at * count : (at + 1) * count]] for at in range(directions)
    ]


def _uses_defaults(call: Call, defaults: Sequence[str]) -> bool:
    names = [name.lower() for name in call.texts("activations")]
    return names in ([], list(defaults), list(defaults) * 2) and not call.has("clip")


def _clip(call: Call) -> Activation:
    if not call.has("clip"):
        return lambda x: x
    limit = call.real("clip", 0.0)
    return lambda x: x.clamp(-limit, limit)


def _over_time(
    layer: _Layer, steps: Sequence[Step], backwards: Sequence[bool]
) -> tuple[torch.Tensor, States]:
    """Runs each direction's step along the time axis.

    Returns:
        Every output, [time, directions, batch, hidden], and the last states, each
        [directions, batch, hidden].
    """
    outputs, lasts = [], []
    for direction, (step, back) in enumerate(zip(steps, backwards, strict=True)):
        of_input, _ = layer.biases(direction)
        read = functional.linear(layer.x, layer.w[direction], of_input)
        states: States = tuple(state[direction] for state in layer.states)
        found: list[torch.Tensor] = []
        moments = range(read.shape[0])
        for moment in reversed(moments) if back else moments:
            new = step(read[moment], states)
            output = new[0]
            if layer.lengths is not None:
                inside = (moment < layer.lengths).unsqueeze(-1)
                output = torch.where(inside, output, 0.0).to(output.dtype)
                new = tuple(torch.where(inside, *pair) for pair in zip(new, states, strict=True))
            states = new
            found.append(output)
        if back:
            found.reverse()
        outputs.append(torch.stack(found))
        lasts.append(states)
    return torch.stack(outputs, 1), tuple(torch.stack(each) for each in zip(*lasts, strict=True))


def _reordered(blocks: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    """Gate blocks along the first axis in another order."""
    gates = blocks.chunk(len(order))
    return torch.cat([gates[gate] for gate in order])


def _torch_weights(layer: _Layer, order: Sequence[int]) -> list[torch.Tensor]:
    """A layer's weights as torch's kernels take them: for each direction w, r and two biases."""
    found = []
    for direction in range(layer.w.shape[0]):
        each = (layer.w[direction], layer.r[direction], *layer.biases(direction))
        found += [_reordered(blocks, order) for blocks in each]
    return found


def _by_torch(
    kernel: Callable[..., tuple[torch.Tensor, ...]],
    layer: _Layer,
    order: Sequence[int],
    backwards: Sequence[bool],
) -> tuple[torch.Tensor, States]:
    """What `_over_time` gives, from one of torch's kernels; all sequences are full."""
    only_back = tuple(backwards) == (True,)
    x = layer.x.flip(0) if only_back else layer.x
    states = layer.states if len(layer.states) > 1 else layer.states[0]
    y, *last = kernel(
        x,
        states,
        _torch_weights(layer, order),
        True,
        1,
        0.0,
        torch.is_grad_enabled(),
        len(backwards) == 2,
        False,
    )
    y = y.reshape(*y.shape[:2], len(backwards), -1).transpose(1, 2)
    return y.flip(0) if only_back else y, tuple(last)


def _outputs(call: Call, y: torch.Tensor, states: States) -> tuple[torch.Tensor, ...]:
    if not call.integer("layout", 0):
        return (y, *states)
    return (y.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in states))


def _lstm(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    h: torch.Tensor | None = None,
    c: torch.Tensor | None = None,
    peepholes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    layer, backwards = _layer(call, x, w, r, b, lengths, (h, c)), _backwards(call)
    defaults, coupled = ("sigmoid", "tanh", "tanh"), call.integer("input_forget", 0)
    if (
        layer.lengths is None
        and peepholes is None
        and not coupled
        and _uses_defaults(call, defaults)
    ):
        return _outputs(call, *_by_torch(torch.lstm, layer, _TORCH_LSTM, backwards))
    clip = _clip(call)

    def step_of(direction: int, f: Activation, g: Activation, last: Activation) -> Step:
        _, of_state = layer.biases(direction)
        peeps = layer.x.new_zeros(3 * layer.hidden) if peepholes is None else peepholes[direction]
        peep_i, peep_o, peep_f = peeps.chunk(3)

        def step(read: torch.Tensor, states: States) -> States:
            hidden, cell = states
            i, o, forget, new = (
                read + functional.linear(hidden, layer.r[direction], of_state)
            ).chunk(4, -1)
            i = f(clip(i + peep_i * cell))
            forget = 1 - i if coupled else f(clip(forget + peep_f * cell))
            cell = forget * cell + i * g(clip(new))
            return f(clip(o + peep_o * cell)) * last(cell), cell

        return step

    steps = [step_of(at, *each) for at, each in enumerate(_activations(call, defaults))]
    return _outputs(call, *_over_time(layer, steps, backwards))


def _gru(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    h: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    layer, backwards = _layer(call, x, w, r, b, lengths, (h,)), _backwards(call)
    defaults, before = ("sigmoid", "tanh"), call.integer("linear_before_reset", 0)
    if layer.lengths is None and before and _uses_defaults(call, defaults):
        return _outputs(call, *_by_torch(torch.gru, layer, _TORCH_GRU, backwards))
    clip = _clip(call)

    def step_of(direction: int, f: Activation, g: Activation) -> Step:
        recurrent, (_, of_state) = layer.r[direction], layer.biases(direction)
        two = 2 * layer.hidden

        def step(read: torch.Tensor, states: States) -> States:
            (hidden,) = states
            gates = read[:, :two] + functional.linear(hidden, recurrent[:two], of_state[:two])
            update, reset = f(clip(gates)).chunk(2, -1)
            weight, bias = recurrent[two:], of_state[two:]
            if before:
                state = reset * functional.linear(hidden, weight, bias)
            else:
                state = functional.linear(reset * hidden, weight, bias)
            new = g(clip(read[:, two:] + state))
            return ((1 - update) * new + update * hidden,)

        return step

    steps = [step_of(at, *each) for at, each in enumerate(_activations(call, defaults))]
    return _outputs(call, *_over_time(layer, steps, backwards))


def _rnn(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    h: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    layer, backwards = _layer(call, x, w, r, b, lengths, (h,)), _backwards(call)
    if layer.lengths is None and _uses_defaults(call, ("tanh",)):
        return _outputs(call, *_by_torch(torch.rnn_tanh, layer, (0,), backwards))
    clip = _clip(call)

    def step_of(direction: int, f: Activation) -> Step:
        _, of_state = layer.biases(direction)

        def step(read: torch.Tensor, states: States) -> States:
            return (f(clip(read + functional.linear(states[0], layer.r[direction], of_state))),)

        return step

    steps = [step_of(at, *each) for at, each in enumerate(_activations(call, ("tanh",)))]
    return _outputs(call, *_over_time(layer, steps, backwards))


TABLE: Table = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
