"""Files that passes make of small graphs, for `benchmarks.runtimes` to load with old releases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import parser

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.synthetic import synthetic_dataset
from onnxcompress.errors import OnnxCompressError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Model
from onnxcompress.pass_manager import PassManager
from onnxcompress.recipe import parse_pass
from onnxcompress.releases import Release, oldest_release
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

_SAMPLES = 8

_MLP = """<ir_version: 8, opset_import: ["" : 13]>
mlp (float[n, 64] x) => (float[n, 8] y)
<float[64, 128] w, float[128] b, float[128, 128] v, float[128, 8] u, float[8] c> {
  a = Gemm(x, w, b)  d = Relu(a)  e = MatMul(d, v)  f = Tanh(e)
  y = Gemm(f, u, c) }"""

_CONVOLUTIONS = """<ir_version: 8, opset_import: ["" : 14]>
convolutions (float[n, 3, 16, 16] x) => (float[n, 8] y)
<float[32, 3, 3, 3] w, float[32] b, float[32] scale, float[32] shift, float[32] mean,
 float[32] variance, float[32, 1, 3, 3] d, float[64, 32, 1, 1] p, float[64, 8] u, float[8] c> {
  a = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  e = BatchNormalization (a, scale, shift, mean, variance)  f = Relu(e)
  g = Conv <pads = [1, 1, 1, 1], group = 32> (f, d)  h = HardSwish(g)
  i = Conv(h, p)  j = Relu(i)  k = GlobalAveragePool(j)  l = Flatten(k)
  y = Gemm(l, u, c) }"""

_TRANSFORMER = """<ir_version: 8, opset_import: ["" : 17]>
transformer (int64[n, 6] ids) => (float[n, 8] y)
<float[40, 64] table, float[64] scale, float[64] shift, float[64, 64] wq, float[64, 64] wk,
 float[64, 64] wv, float[64, 64] wo, float[64, 128] wi, float[128] bi, float[128, 64] wj,
 float[64, 8] u, int64[4] heads = {0, 0, 4, 16}, int64[3] whole = {0, 0, 64},
 float root = {0.25}, float two = {1.4142135}, float one = {1.0}, float half = {0.5}> {
  a = Gather(table, ids)  x = LayerNormalization <axis = -1> (a, scale, shift)
  q0 = MatMul(x, wq)  q1 = Reshape(q0, heads)  q2 = Transpose <perm = [0, 2, 1, 3]> (q1)
  k0 = MatMul(x, wk)  k1 = Reshape(k0, heads)  k2 = Transpose <perm = [0, 2, 3, 1]> (k1)
  v0 = MatMul(x, wv)  v1 = Reshape(v0, heads)  v2 = Transpose <perm = [0, 2, 1, 3]> (v1)
  s = MatMul(q2, k2)  t = Mul(s, root)  p = Softmax <axis = -1> (t)  z = MatMul(p, v2)
  z1 = Transpose <perm = [0, 2, 1, 3]> (z)  z2 = Reshape(z1, whole)  z3 = MatMul(z2, wo)
  r = Add(x, z3)  i0 = MatMul(r, wi)  i1 = Add(i0, bi)  i2 = Div(i1, two)  i3 = Erf(i2)
  i4 = Add(i3, one)  i5 = Mul(i1, i4)  i6 = Mul(i5, half)  j0 = MatMul(i6, wj)
  j1 = Add(r, j0)  m = ReduceMean <axes = [1], keepdims = 0> (j1)  y = MatMul(m, u) }"""

_RECURRENT = """<ir_version: 8, opset_import: ["" : 13]>
recurrent (float[6, n, 32] x) => (float[6, n, 8] y)
<float[1, 128, 32] w, float[1, 128, 32] r, float[1, 256] b, float[32, 8] u,
 int64[1] directions = {1}> {
  a = LSTM <hidden_size = 32> (x, w, r, b)  s = Squeeze(a, directions)
  y = MatMul(s, u) }"""

GRAPHS: Mapping[str, str] = {
    "MLP": _MLP,
    "convolutions": _CONVOLUTIONS,
    "transformer": _TRANSFORMER,
    "LSTM": _RECURRENT,
}
"""ONNX text; weights are drawn."""

_BLOCKS = "bits={bits},granularity=per-block,min_elements=1"

FORMS: Mapping[str, tuple[str, ...]] = {
    "cleaned up": (),
    "int8, static": ("quantize-static",),
    "int8, dynamic": ("quantize-dynamic",),
    "int8 weights": ("quantize-weights:min_elements=1",),
    "int8 weights, blocks": ("quantize-weights:" + _BLOCKS.format(bits=8),),
    "int8 weights, MatMulNBits": ("quantize-weights:form=matmul-nbits," + _BLOCKS.format(bits=8),),
    "int4 weights": ("quantize-weights:bits=4,min_elements=1",),
    "int4 weights, blocks": ("quantize-weights:" + _BLOCKS.format(bits=4),),
    "int4 weights, MatMulNBits": ("quantize-weights:form=matmul-nbits," + _BLOCKS.format(bits=4),),
    "int4 weights, auto": ("quantize-weights:form=auto," + _BLOCKS.format(bits=4),),
    "int4 weights, at load": ("quantize-weights:form=at-load," + _BLOCKS.format(bits=4),),
    "int4 weights, GPTQ": ("gptq:min_elements=1",),
    "int2 weights, blocks": ("quantize-weights:" + _BLOCKS.format(bits=2),),
    "int16 weights": ("quantize-weights:bits=16,min_elements=1",),
    "16-bit activations": ("quantize-static:activations=uint16",),
    "fixed point, 8 bits": ("quantize-fixed-point",),
    "fixed point, 12 bits": ("quantize-fixed-point:word_length=12",),
    "palettes": ("palettize-weights:min_elements=1",),
    "binary weights": ("binarize-weights:min_elements=1",),
    "ternary weights": ("ternarize-weights:min_elements=1",),
    "float16 weights": ("convert-float:min_elements=1",),
    "bfloat16 weights": ("convert-float:dtype=bfloat16,min_elements=1",),
    "float8 weights": ("convert-float:dtype=float8e4m3fn,min_elements=1",),
    "float16 throughout": ("convert-float:scope=graph",),
    "sparse weights": ("prune-weights:sparsity=0.9", "store-sparse"),
}
"""By name, passes that run after clean-up, as the command line writes them."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A file.

    Attributes:
        graph: of which it was made; `form` by which passes.
        asked: the release that was asked for; None for none.
        told: the oldest release that loads it, by the table; None if it could not be made.
        reason: why it could not.
        content: the file.
    """

    graph: str
    form: str
    asked: Release | None
    told: Release | None
    reason: str = ""
    content: bytes = b""


def made(asked: tuple[Release, ...], say: Callable[[str], None]) -> Iterator[Made]:
    """Every form of every graph, freely and for each release that the free one is too new for."""
    for graph in GRAPHS:
        model = drawn(GRAPHS[graph])
        data = samples(model)
        for form in FORMS:
            say(f"{graph}: {form}")
            free = make(graph, form, model, data, None)
            yield free
            for release in asked:
                if free.told is None or free.told > release:
                    yield make(graph, form, model, data, release)


def drawn(text: str, seed: int = 0) -> Model:
    """A graph with its weights drawn: float32, about 1 over the root of what they sum."""
    proto = parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for info in proto.graph.value_info:  # what the text declares and gives no numbers
        shape = tuple(axis.dim_value for axis in info.type.tensor_type.shape.dim)
        if len(shape) > 1:
            values = rng.standard_normal(shape) / np.sqrt(np.prod(shape) / max(shape))
        else:
            values = rng.uniform(0.5, 1.5, shape)
        proto.graph.initializer.append(
            onnx.numpy_helper.from_array(values.astype(np.float32), info.name)
        )
    del proto.graph.value_info[:]
    return import_model(proto)


def samples(model: Model) -> Dataset:
    """Made-up samples for a graph."""
    return synthetic_dataset(Session(io.to_bytes(model)).inputs, _SAMPLES, seed=0)


def make(graph: str, form: str, model: Model, data: Dataset, asked: Release | None) -> Made:
    """One form of one graph."""
    result = clone(model)
    try:
        passes = (*CLEAN_UP, *map(parse_pass, FORMS[form]))
        PassManager(passes).run(result, RuntimeContext(data, release=asked))
    except OnnxCompressError as fault:
        return Made(graph=graph, form=form, asked=asked, told=None, reason=str(fault))
    told, content = oldest_release(result), io.to_bytes(result)
    return Made(graph=graph, form=form, asked=asked, told=told, content=content)
