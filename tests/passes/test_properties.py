"""Random small CNNs: clean-up is exact, int8 stays close."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import (
    FoldAffine,
    FoldBatchNorm,
    FoldConstants,
    FoldPad,
    MergeDuplicates,
    MergeMatMuls,
    QuantizeStatic,
    RemoveNoOps,
    RemoveUnused,
)
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.target import Target
from tests.helpers import outputs

from .support import Array, model_of, normal, sqnr

pytestmark = pytest.mark.slow

CLEAN = (
    FoldConstants(),
    RemoveNoOps(),
    FoldPad(),
    FoldBatchNorm(),
    FoldAffine(),
    MergeDuplicates(),
    MergeMatMuls(),
    RemoveUnused(),
)
CHANNELS = 8
LAYERS = ("conv", "depthwise", "relu", "clip", "norm", "scale", "shift", "pad", "add", "identity")


@dataclass(frozen=True)
class _Net:
    layers: tuple[tuple[str, int], ...]
    seed: int

    def model(self) -> Model:
        rng = np.random.default_rng(self.seed)
        weights: dict[str, Array] = {
            "stem": normal(CHANNELS, 3, 3, 3, seed=self.seed) / 4,
            "low": np.array(0, np.float32),
            "high": np.array(6, np.float32),
            "p": np.array([0, 0, 1, 0, 0, 0, 1, 0]),
        }
        lines = ["t0 = Conv <pads = [1, 1, 1, 1]> (x, stem)"]
        for index, (kind, back) in enumerate(self.layers):
            source, earlier, target = f"t{index}", f"t{index - back % (index + 1)}", f"t{index + 1}"
            w, v = f"w{index}", f"v{index}"
            call = {
                "conv": f"Conv <pads = [1, 1, 1, 1]> ({source}, {w}, {v})",
                "depthwise": f"Conv <group = {CHANNELS}, pads = [1, 1, 1, 1]> ({source}, {w}, {v})",
                "relu": f"Relu({source})",
                "clip": f"Clip({source}, low, high)",
                "norm": f"BatchNormalization({source}, {v}, {v}_b, {v}_m, {v}_s)",
                "scale": f"Mul({source}, {v}_c)",
                "shift": f"Add({v}_c, {source})",
                "pad": f"Conv(q{index}, {w})",
                "add": f"Add({source}, {earlier})",
                "identity": f"Identity({source})",
            }[kind]
            if kind == "pad":
                lines.append(f"q{index} = Pad({source}, p)")
                weights[w] = normal(CHANNELS, CHANNELS, 3, 1, seed=index) / 5
            elif kind in ("conv", "depthwise"):
                group = 1 if kind == "conv" else CHANNELS
                fan = 9 * CHANNELS / group
                shape = (CHANNELS, CHANNELS // group, 3, 3)
                weights[w] = (rng.standard_normal(shape) * (2 / fan) ** 0.5).astype(np.float32)
            weights[v] = rng.uniform(0.5, 1.5, CHANNELS).astype(np.float32)
            weights[f"{v}_b"], weights[f"{v}_m"] = rng.uniform(-0.5, 0.5, (2, CHANNELS)).astype("f")
            weights[f"{v}_s"] = rng.uniform(0.5, 2, CHANNELS).astype(np.float32)
            weights[f"{v}_c"] = weights[v][:, None, None]
            lines.append(f"{target} = {call}")
        lines.append(f"y = Conv(t{len(self.layers)}, head)")
        weights["head"] = normal(4, CHANNELS, 1, 1, seed=9)
        text = f"g (float[N, 3, 9, 7] x) => (float[N, 4, 9, 7] y) {{ {' '.join(lines)} }}"
        return model_of(text, **weights)


nets = st.builds(
    _Net,
    st.lists(st.tuples(st.sampled_from(LAYERS), st.integers(0, 9)), max_size=10).map(tuple),
    st.integers(0, 1000),
)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(nets)
def test_clean_up_is_exact_and_settles(net: _Net) -> None:
    model, feeds = net.model(), {"x": normal(2, 3, 9, 7)}
    before = outputs(model, feeds)["y"]
    PassManager(CLEAN).run(model)
    after = outputs(model, feeds)["y"]
    scale = float(np.abs(before).max())
    np.testing.assert_allclose(after / scale, before / scale, atol=2e-5)
    kept = sum(kind in ("conv", "depthwise", "pad") for kind, _ in net.layers)
    assert sum(node.op == "Conv" for _, node in model.nodes()) <= kept + 2
    assert not any(node.op in ("Identity", "Pad") for _, node in model.nodes())
    for report in PassManager(CLEAN).run(model):
        assert not report.modified, (report.name, report.changes)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(nets, st.sampled_from(Target), st.booleans())
def test_static_int8_stays_close(net: _Net, target: Target, clean: bool) -> None:
    model, feeds = net.model(), {"x": normal(16, 3, 9, 7)}
    before = outputs(model, feeds)["y"]
    data = dataset_of(feeds, Session(io.to_bytes(model)).inputs)
    passes = (*CLEAN, QuantizeStatic()) if clean else (QuantizeStatic(),)
    PassManager(passes).run(model, RuntimeContext(data, target=target))
    assert sqnr(before, outputs(model, feeds)["y"]) > 17
    assert any(node.op == "QuantizeLinear" for _, node in model.nodes())
