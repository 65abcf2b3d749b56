import numpy as np
import pytest

from onnxcompress.distillation.call import UnsupportedError
from tests.distillation.operators.support import check, check_gradients, node_model, ours

RNG = np.random.default_rng(0)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TIME, BATCH, FEATURES, HIDDEN = 5, 3, 2, 4


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def layer(op, directions, *, time=TIME, biased=True, lengths=None, started=True):
    rows = GATES[op] * HIDDEN
    start = normal(directions, BATCH, HIDDEN) if started else None
    return [
        normal(time, BATCH, FEATURES),
        normal(directions, rows, FEATURES),
        normal(directions, rows, HIDDEN),
        normal(directions, 2 * rows) if biased else None,
        None if lengths is None else np.array(lengths, np.int32),
        start,
        *([None if start is None else normal(*start.shape)] if op == "LSTM" else []),
    ]


DIRECTIONS = [("forward", 1), ("reverse", 1), ("bidirectional", 2)]
OUTPUTS = {"LSTM": 3, "GRU": 2, "RNN": 2}


@pytest.mark.parametrize(("direction", "count"), DIRECTIONS)
@pytest.mark.parametrize("lengths", [None, [5, 5, 5], [5, 1, 3]])
@pytest.mark.parametrize("op", GATES)
def test_directions_and_lengths(op, direction, count, lengths):
    given = {"hidden_size": HIDDEN, "direction": direction}
    for biased, started in [(True, True), (False, False)]:
        inputs = layer(op, count, lengths=lengths, biased=biased, started=started)
        check(op, inputs, OUTPUTS[op], opset=14, **given)
        check(op, inputs, [OUTPUTS[op] - 1], opset=7, **given)
        if op == "GRU":
            check(op, inputs, 2, linear_before_reset=1, **given)


@pytest.mark.parametrize("op", GATES)
def test_clip(op):
    for lengths in (None, [4, 5, 2]):
        inputs = layer(op, 2, lengths=lengths)
        given = {"hidden_size": HIDDEN, "direction": "bidirectional", "clip": 0.7}
        check(op, inputs, OUTPUTS[op], **given)


def test_peepholes_and_coupled_gates():
    inputs = layer("LSTM", 2)
    given = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    check("LSTM", [*inputs, normal(2, 3 * HIDDEN)], 3, **given)
    check("LSTM", [*inputs, normal(2, 3 * HIDDEN)], 3, clip=0.5, **given)
    check("LSTM", inputs, 3, input_forget=1, **given)


def test_other_activations():
    given = {"hidden_size": HIDDEN}
    check("LSTM", layer("LSTM", 1), 3, activations=["Sigmoid", "Relu", "Softsign"], **given)
    check("GRU", layer("GRU", 1), 2, activations=["Sigmoid", "Softsign"], **given)
    inputs = layer("RNN", 2)
    check("RNN", inputs, 2, direction="bidirectional", activations=["Relu", "Tanh"], **given)


def test_an_activation_with_parameters_is_refused():
    inputs = layer("RNN", 1)
    model = node_model("RNN", inputs, hidden_size=HIDDEN, activations=["ScaledTanh"])
    with pytest.raises(UnsupportedError, match=r"node 'n' .*scaledtanh"):
        ours(model, inputs)


@pytest.mark.parametrize("op", GATES)
def test_batch_first_is_the_transpose(op):
    inputs = layer(op, 2)
    given = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    wanted = ours(node_model(op, inputs, OUTPUTS[op], **given), inputs)
    y, *last = wanted.values()
    first = [each if at in (1, 2, 3) or each is None else each.swapaxes(0, 1)
             for at, each in enumerate(inputs)]  # fmt: skip
    expected = [y.transpose(2, 0, 1, 3), *(each.swapaxes(0, 1) for each in last)]
    check(op, first, OUTPUTS[op], expected=expected, layout=1, **given)


@pytest.mark.parametrize(("direction", "count"), DIRECTIONS)
@pytest.mark.parametrize("op", GATES)
def test_gradients(op, direction, count):
    given = {"hidden_size": HIDDEN, "direction": direction}
    check_gradients(op, layer(op, count, time=3), OUTPUTS[op], **given)
    if op == "GRU":
        check_gradients(op, layer(op, count, time=3), 2, linear_before_reset=1, **given)


def test_gradients_of_the_loop():
    inputs = [*layer("LSTM", 1, time=3, lengths=[3, 1, 2]), normal(1, 3 * HIDDEN)]
    check_gradients("LSTM", inputs, 3, hidden_size=HIDDEN)
