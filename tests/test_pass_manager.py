from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import PassError, SessionError
from onnxcompress.ir import io, query
from onnxcompress.ir.edit import Action, Change, Editor, Skip
from onnxcompress.ir.model import Model, Variable
from onnxcompress.pass_base import EXCLUDED, Context, Override, Pass, PassReport
from onnxcompress.pass_manager import OnError, PassManager
from onnxcompress.passes import (
    CorrectBias,
    EqualizeChannels,
    PruneVocabulary,
    QuantizeTiedTable,
)
from onnxcompress.quantization.observers import Observer
from onnxcompress.runtime import check
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.helpers import node, ops, parse, run

TEXT = """g (float[2] x) => (float[2] y) <float[2] w = {1, 2}, float[2] v = {3, 4}>
    { a = Add(x, w)  b = Exp(a)  c = Mul(b, v)  y = Neg(c) }"""
X = np.array([1, -2], np.float32)
WEIGHTS = np.float32([[2.25, 4.25], [6.25, 8.25]])  # once Scale has run


@dataclass(frozen=True, kw_only=True)
class Scale(Pass):
    """w  ->  factor * w, of Add and Mul."""

    name: ClassVar[str] = "scale"
    factor: float = 2.0

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        del context
        for found in query.nodes(model, {"Add", "Mul"}):
            here = self.at(found)
            weight = query.constant(found, 1)
            if here is None:
                edit.skip(found, EXCLUDED)
            elif weight is not None and (weight.values != np.rint(weight.values)).any():
                edit.skip(found, "is scaled")
            elif weight is not None:
                scaled = (here.factor * weight.values + 0.25).astype(np.float32)
                edit.set_values(found, 1, scaled)


@dataclass(frozen=True, kw_only=True)
class Drop(Pass):
    """y = Neg(x)  ->  x, which is not equal at all."""

    name: ClassVar[str] = "drop"

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        del context
        for found in query.nodes(model, {"Neg"}):
            edit.bypass(found)


@dataclass(frozen=True, kw_only=True)
class DropExactly(Drop):
    """The same, and claims to be exact."""

    name: ClassVar[str] = "drop-exactly"
    exact: ClassVar[bool] = True


def _breaks_wiring(model: Model, edit: Editor) -> None:
    edit.set_input(node(model, "Exp_b"), 0, Variable("ghost"))


def _makes_a_cycle(model: Model, edit: Editor) -> None:
    edit.set_input(node(model, "Add_a"), 0, node(model, "Mul_c").outputs[0])


def _does_not_load(model: Model, edit: Editor) -> None:
    edit.set_attribute(node(model, "Exp_b"), "nonsense", 1)


def _does_not_run(model: Model, edit: Editor) -> None:
    exp = node(model, "Exp_b")
    far = edit.constant("far", np.array([1000]))
    length = edit.add("Shape", [exp.inputs[0]], near=exp, base="length")
    index = edit.add("Mul", [length, far], near=exp, base="index")
    edit.set_input(exp, 0, edit.add("Gather", [exp.inputs[0], index], near=exp, base="gathered"))


def _has_a_bug(model: Model, edit: Editor) -> None:
    edit.set_values(node(model, "Add_a"), 1, np.zeros(2, np.float32))
    model.graph.nodes.clear()
    model.envelope.producer_name = "broken"
    raise KeyError("no such thing")


@dataclass(frozen=True, kw_only=True)
class Faulty(Pass):
    """Does what it should not."""

    name: ClassVar[str] = "faulty"
    fault: Callable[[Model, Editor], None]

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        del context
        self.fault(model, edit)


FAULTS = {
    _breaks_wiring: r"node 'Exp_b' \(Exp\) reads 'ghost', which nothing defines",
    _makes_a_cycle: "the graph has a cycle through node",
    _does_not_load: "onnxruntime cannot load the model: .*nonsense",
    _does_not_run: "onnxruntime cannot (load|run) the model: .*indices element out of",
    _has_a_bug: "internal error: KeyError: 'no such thing'",
}


def test_the_report() -> None:
    model = parse(TEXT)
    (report,) = PassManager([Drop()]).run(model)
    assert report == PassReport(
        name="drop",
        changes=(Change(Action.REMOVED, "Neg_y", "Neg"),),
        skips=(),
        nodes_before=4,
        nodes_after=3,
        bytes_before=16,
        bytes_after=16,
        seconds=report.seconds,
        verification="loads and runs",
    )
    assert report.modified
    assert report.seconds > 0
    assert ops(model) == ["Add", "Exp", "Mul"]


def test_clean_up_is_part_of_the_pass() -> None:
    model = parse(TEXT)

    def shortcut(model: Model, edit: Editor) -> None:
        edit.set_input(node(model, "Neg_y"), 0, model.graph.inputs[0])

    (report,) = PassManager([Faulty(fault=shortcut)]).run(model)
    assert ops(model) == ["Neg"]
    assert [change.node for change in report.changes] == [
        "Neg_y",
        "Mul_c",
        "Exp_b",
        "Add_a",
        "w",
        "v",
    ]
    assert (report.nodes_after, report.bytes_after) == (1, 0)


def test_a_second_run_changes_nothing() -> None:
    model = parse(TEXT)
    assert PassManager([Scale()]).run(model)[0].modified
    before = io.to_bytes(model)
    (report,) = PassManager([Scale()]).run(model)
    assert not report.modified
    assert report.verification == "unchanged"
    assert [skip.reason for skip in report.skips] == ["is scaled", "is scaled"]
    assert io.to_bytes(model) == before


def test_exact_passes_are_compared() -> None:
    model = parse(TEXT)
    assert PassManager([Drop()]).run(model)[0].verification == "loads and runs"
    with pytest.raises(PassError, match=r"'drop-exactly' failed .* outputs should stay equal but"):
        PassManager([DropExactly()]).run(parse(TEXT))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_failing_pass_is_rolled_back(fault: Callable[[Model, Editor], None]) -> None:
    model = parse(TEXT)
    PassManager([Scale()]).run(scaled := parse(TEXT))
    manager = PassManager([Scale(), Faulty(fault=fault), Drop()])
    told = rf"pass 'faulty' failed and was rolled back: {FAULTS[fault]}(?s:.)*before it: scale\)$"
    with pytest.raises(PassError, match=told):
        manager.run(model)
    assert io.to_bytes(model) == io.to_bytes(scaled)
    # What is left is a model to go on with, not a wreck.
    PassManager([Drop()]).run(model)
    np.testing.assert_allclose(run(model, x=X), np.exp(X + WEIGHTS[0]) * WEIGHTS[1], rtol=1e-5)


def test_the_first_pass_has_none_before_it() -> None:
    with pytest.raises(PassError, match=r"\(passes done before it: none\)$"):
        PassManager([Faulty(fault=_has_a_bug)]).run(parse(TEXT))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_skip_goes_on_from_where_the_model_was(fault: Callable[[Model, Editor], None]) -> None:
    model = parse(TEXT)
    passes = [Faulty(fault=fault), DropExactly(), Scale()]
    failed, inexact, scaled = PassManager(passes, on_error=OnError.SKIP).run(model)
    for report in (failed, inexact):
        assert report.error
        assert not report.modified
        assert report.verification == "rolled back"
        assert (report.nodes_before, report.nodes_after) == (4, 4)
    assert scaled.error is None
    np.testing.assert_allclose(run(model, x=X), -np.exp(X + WEIGHTS[0]) * WEIGHTS[1], rtol=1e-5)


def _factors(overrides: tuple[Override, ...]) -> tuple[list[float], tuple[Skip, ...]]:
    model = parse("""g (float[1] x) => (float[1] y) <float[1] u = {1}, float[1] v = {1},
        float[1] w = {1}> { a = Add(x, u)  b = Mul(a, v)  y = Add(b, w) }""")
    (report,) = PassManager([Scale(overrides=overrides)]).run(model)
    weights = [query.constant(found, 1) for found in model.graph.nodes]
    return [float(w.values[0]) - 0.25 for w in weights if w is not None], report.skips


def test_overrides_by_name_beat_those_by_op_type_beat_the_default() -> None:
    by_name = Override(Scale(factor=5), nodes=("*_y",))
    by_op = Override(Scale(factor=7), op_types=("Add",))
    assert _factors(()) == ([2, 2, 2], ())
    assert _factors((by_op,)) == ([7, 2, 7], ())
    assert _factors((by_name,)) == ([2, 2, 5], ())
    assert _factors((by_op, by_name)) == ([7, 2, 5], ())
    first = Override(Scale(factor=9), nodes=("Add_[ay]",))
    assert _factors((first, by_name)) == ([9, 2, 9], ())  # the first that fits


def test_excluded_nodes_are_skipped_with_the_reason() -> None:
    factors, skips = _factors((Override(None, nodes=("Mul_b",)),))
    assert factors == [2, 0.75, 2]
    assert skips == (Skip("Mul_b", "Mul", EXCLUDED),)


def test_overrides_that_mean_no_node_are_told() -> None:
    _, skips = _factors(
        (
            Override(Scale(factor=5), nodes=("add_y", "Sub*"), op_types=("Conv",)),
            Override(None, op_types=("Mul",)),
        )
    )
    assert Skip("add_y, Sub*, Conv", "override", "matches no node") in skips
    assert len(skips) == 2


@dataclass(frozen=True, kw_only=True)
class NeedsNewerOpset(Pass):
    """Neg(x)  ->  Mul(x, -1), in opset 13; it could do with less."""

    name: ClassVar[str] = "needs-13"
    exact: ClassVar[bool] = True
    opset: ClassVar[int] = 13
    fails: bool = False

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        del context
        assert model.opset >= 13
        for found in query.nodes(model, {"Neg"}):
            minus = edit.constant("minus", np.float32(1 if self.fails else -1))
            product = edit.add("Mul", [found.inputs[0], minus], near=found, base="product")
            edit.redirect(found.outputs[0], product)
            edit.remove(found)


OLD = """<ir_version: 4, opset_import: ["" : 9]> g (float[2] x) => (float[2] y)
    { a = Clip <min = 0.0> (x)  b = NEG(a)  y = Exp(b) }"""


def test_older_models_are_raised_to_the_opset_a_pass_needs() -> None:
    model = parse(OLD.replace("NEG", "Neg"))
    before = run(model, x=X)
    (report,) = PassManager([NeedsNewerOpset()]).run(model)
    assert report.changes[0] == Change(Action.CHANGED, "g", "graph", "raised from opset 9 to 13")
    assert report.verification.startswith("outputs equal")
    assert ops(model) == ["Clip", "Mul", "Exp"]
    assert model.opset == 13
    np.testing.assert_allclose(run(model, x=X), before, rtol=1e-6)
    assert not PassManager([NeedsNewerOpset()]).run(model)[0].modified


def test_a_raise_is_rolled_back_with_its_pass_and_where_nothing_needed_it() -> None:
    for op, fails in (("Neg", True), ("Abs", False)):
        model = parse(OLD.replace("NEG", op))
        before = io.to_bytes(model)
        manager = PassManager([NeedsNewerOpset(fails=fails)], on_error=OnError.SKIP)
        (report,) = manager.run(model)
        assert (report.error is not None, report.modified) == (fails, False)
        assert model.opset == 9
        assert io.to_bytes(model) == before


@dataclass(frozen=True, kw_only=True)
class NeedsWhatItsOptionsNeed(NeedsNewerOpset):
    """The same, in the opset that an option asks for."""

    name: ClassVar[str] = "needs-more"
    wanted: int = 13

    def required_opset(self) -> int:
        return self.wanted


@pytest.mark.parametrize(
    ("wanted", "override", "raised"), [(13, 13, 13), (17, 13, 17), (13, 18, 18)]
)
def test_the_opset_may_depend_on_options_and_overrides(
    wanted: int, override: int, raised: int
) -> None:
    model = parse(OLD.replace("NEG", "Neg"))
    here = Override(NeedsWhatItsOptionsNeed(wanted=override), nodes=("Neg*",))
    excluded = Override(None, nodes=("Exp*",))
    PassManager([NeedsWhatItsOptionsNeed(wanted=wanted, overrides=(here, excluded))]).run(model)
    assert model.opset == raised


def test_the_opset_is_the_class_variable_by_default() -> None:
    assert NeedsNewerOpset().required_opset() == 13
    assert Drop().required_opset() == 1


def test_a_model_that_cannot_be_raised() -> None:
    model = parse("""<ir_version: 4, opset_import: ["" : 9]> g (float[2] x) => (float[2] y)
        { b = Neg(x)  [odd] y = Nonsense(b) }""")
    told = r"'needs-13' failed .* cannot be raised from opset 9 to 13: node 'odd' \(Nonsense\): "
    with pytest.raises(PassError, match=told):
        PassManager([NeedsNewerOpset()]).run(model)


def test_very_large_models_are_verified_by_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MAX_RUN_BYTES", 15)
    monkeypatch.setattr(Session, "__init__", lambda *_: pytest.fail("a session was made"))
    (report,) = PassManager([DropExactly()]).run(parse(TEXT))
    assert report.modified
    assert report.verification.startswith("structure only")
    with pytest.raises(PassError, match="reads 'ghost'"):
        PassManager([Faulty(fault=_breaks_wiring)]).run(parse(TEXT))


@dataclass(frozen=True, kw_only=True)
class WantsRanges(Pass):
    """Asks for the range of y."""

    name: ClassVar[str] = "wants-ranges"

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        found = context.ranges(model, ["y"], Observer.MIN_MAX)["y"]
        edit.skip(node(model, "Neg_y"), f"{found.low:.2f}..{found.high:.2f}")


def test_passes_get_the_context() -> None:
    model = parse(TEXT)
    with pytest.raises(PassError, match=r"'wants-ranges' failed .* need calibration data"):
        PassManager([WantsRanges()]).run(model)
    data = dataset_of({"x": X}, Session(io.to_bytes(model)).inputs)
    (report,) = PassManager([WantsRanges()]).run(model, RuntimeContext(data))
    low, high = sorted(run(model, x=X))
    assert report.skips == (Skip("Neg_y", "Neg", f"{low:.2f}..{high:.2f}"),)


def test_data_that_do_not_suit_the_model_stop_everything() -> None:
    model = parse(TEXT)
    other = parse("g (float[2] other) => (float[2] y) { y = Neg(other) }")
    data = dataset_of({"other": X}, Session(io.to_bytes(other)).inputs)
    with pytest.raises(SessionError, match="cannot run the model"):
        PassManager([Drop()]).run(model, RuntimeContext(data))
    assert ops(model) == ["Add", "Exp", "Mul", "Neg"]


@dataclass(frozen=True, kw_only=True)
class Prunes(Scale):
    """w  ->  factor * w, and says what came before it."""

    name: ClassVar[str] = "prunes"
    prunes: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        SEEN.append(context.unpruned_model)
        super().run(model, edit, context)


@dataclass(frozen=True, kw_only=True)
class Looks(Drop):
    """Says what came before pruning."""

    name: ClassVar[str] = "looks"

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        del model, edit
        SEEN.append(context.unpruned_model)


SEEN: list[Model | None] = []


def test_passes_see_the_model_from_before_the_first_that_prunes() -> None:
    SEEN.clear()
    model, context = parse(TEXT), RuntimeContext()
    PassManager([Looks(), Scale(), Looks(), Prunes(), Prunes(), Looks()]).run(model, context)
    early, first, *late = SEEN[0], SEEN[2], *SEEN[2:]
    assert early is None and SEEN[1] is None
    assert first is not None and first is not model
    assert all(each is first for each in late) and len(late) == 3
    values = [constant.values for constant in first.constants()]
    np.testing.assert_array_equal(values, WEIGHTS)  # scaled, and nothing taken yet
    assert context.unpruned_model is None  # it holds for one run


def test_a_model_from_before_pruning_that_is_given_stays() -> None:
    SEEN.clear()
    given = parse(TEXT)
    PassManager([Looks(), Prunes(), Looks()]).run(parse(TEXT), RuntimeContext(unpruned_model=given))
    assert all(each is given for each in SEEN) and len(SEEN) == 3


def test_no_passes() -> None:
    model = parse(TEXT)
    before = io.to_bytes(model)
    assert PassManager([]).run(model) == []
    assert io.to_bytes(model) == before


@pytest.mark.parametrize(
    ("pass_", "sought"),
    [
        (CorrectBias(), "quantized Conv or Gemm: it goes after quantize-static"),
        (EqualizeChannels(), "Conv or Gemm, between which scales are moved"),
        (PruneVocabulary(), "Gather from a stored table of floats"),
        (QuantizeTiedTable(), "Gather from a stored table of floats"),
    ],
)
def test_a_pass_that_finds_nothing_says_what_it_sought(pass_: Pass, sought: str) -> None:
    (report,) = PassManager([pass_]).run(parse(TEXT))
    assert report.skips == (Skip("g", "graph", f"there is no {sought}"),)
    assert not report.modified
