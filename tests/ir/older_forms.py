"""Small graphs, each with an operator in a form that a later operator set changed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """A graph of an older operator set.

    Attributes:
        opset: that it is written in.
        inputs: ONNX text; letters stand for 6. Integers are fed as ones.
        nodes: ONNX text; a single expression makes y.
        stored: ONNX text.
        outputs: ONNX text.
    """

    opset: int
    inputs: str
    nodes: str
    stored: str = ""
    outputs: str = "float[] y"

    @property
    def text(self) -> str:
        """The model."""
        whole = " = " in self.nodes.split("(")[0].split("<")[0]
        nodes = self.nodes if whole else f"y = {self.nodes}"
        ir = 8 if self.opset > 9 else 4
        stored = f"<{self.stored}>" if self.stored else ""
        return (
            f'<ir_version: {ir}, opset_import: ["" : {self.opset}]> g ({self.inputs}) '
            f"=> ({self.outputs}) {stored} {{ {nodes} }}"
        )


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")

FORMS = (
    *(
        Form(11, "float[2, 3, 4] x", f"q = Abs(x)  y = Reduce{kind} <axes = [0, -1]> (q)")
        for kind in REDUCTIONS
    ),
    Form(11, "float[2, 3] x", "ArgMax <axis = 1> (x)", outputs="int64[] y"),
    Form(11, "float[2, 3] x", "ArgMin <axis = 1> (x)", outputs="int64[] y"),
    Form(
        7,
        "float[1, 3, 5, 5] x",
        "AveragePool <kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1]> (x)",
    ),
    Form(
        11,
        "float[1, 3, 5, 5] x",
        "AveragePool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1, "
        "count_include_pad = 1, pads = [1, 1, 0, 0]> (x)",
    ),
    Form(
        8,
        "float[2, 3, 2, 2] x",
        "BatchNormalization(x, s, m, m, s)",
        "float[3] s = {1, 2, 3}, float[3] m = {0, 1, 2}",
    ),
    Form(
        9,
        "float[2, 3, 2, 2] x",
        "BatchNormalization <epsilon = 0.1> (x, s, m, m, s)",
        "float[3] s = {1, 2, 3}, float[3] m = {0, 1, 2}",
    ),
    Form(13, "float[2, 3] x", "Cast <to = 10> (x)", outputs="float16[] y"),
    Form(7, "float[2, 3] x", "Clip <min = -0.5> (x)"),
    Form(7, "float[2, 3] x", "Clip <max = 0.5> (x)"),
    Form(7, "float[2, 3] x", "Clip(x)"),
    Form(7, "float[1, 8, 2, 2] x", "DepthToSpace <blocksize = 2> (x)"),
    Form(10, "uint8[2, 3] x", "DequantizeLinear(x, s, z)", "float s = {0.5}, uint8 z = {3}"),
    Form(7, "float[2, 3] x", "Dropout <ratio = 0.3> (x)"),
    Form(10, "float[2, 3] x", "Dropout <ratio = 0.3> (x)"),
    Form(10, "float[2, 3] x", "y, m = Dropout <ratio = 0.3> (x)", outputs="float[] y, bool[] m"),
    Form(17, "float[1, 4, 6, 1] x", "DFT <axis = 2> (x)"),
    Form(
        7,
        "float[3, 2, 4] x, float[1, 15, 4] w, float[1, 15, 5] r",
        "GRU <hidden_size = 5> (x, w, r)",
    ),
    Form(
        7,
        "float[3, 2, 4] x, float[1, 20, 4] w, float[1, 20, 5] r",
        "LSTM <hidden_size = 5> (x, w, r)",
    ),
    Form(11, "float[2, 3] x", "GatherND(x, i)", "int64[2, 1] i = {1, 0}"),
    Form(9, "float[2, 3] x, float[3, 4] w, float[4] b", "Gemm(x, w, b)"),
    Form(7, "float[2, 3] x, float[3, 4] w, float[4] b", "Gemm <alpha = 0.5> (x, w, b)"),
    Form(16, "float[1, 2, 4, 4] x, float[1, 3, 3, 2] t", "GridSample(x, t)"),
    Form(
        16,
        "float[1, 2, 4, 4] x, float[1, 3, 3, 2] t",
        'GridSample <mode = "bicubic", align_corners = 1> (x, t)',
    ),
    Form(
        18,
        "float[2, 6, 3] x, float[3] s, float[3] b",
        "GroupNormalization <num_groups = 3> (x, s, b)",
    ),
    Form(9, "float[2, 3, 4] x", "Hardmax(x)"),
    Form(11, "float[2, 3, 4] x", "Hardmax <axis = 0> (x)"),
    Form(9, "float[2, 3, 4] x", "Softmax(x)"),
    Form(11, "float[2, 3, 4] x", "Softmax <axis = -2> (x)"),
    Form(11, "float[N, M, 4] x", "Softmax(x)"),
    Form(11, "float[N, M, 4] x", "Softmax <axis = 2> (x)"),
    Form(
        9,
        "float[2, 3, 4] x",
        "r = Reshape(x, s)  y = Softmax <axis = 1> (r)",
        "int64[3] s = {2, 4, 3}",
    ),
    Form(9, "float[2, 3, 4] x", "LogSoftmax <axis = 0> (x)"),
    Form(11, "float[1, 3, 5, 5] x", "LpPool <kernel_shape = [2, 2]> (x)"),
    Form(7, "float[1, 3, 5, 5] x", "MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)"),
    Form(
        8,
        "float[1, 3, 5, 5] x",
        "y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2], storage_order = 1> (x)",
        outputs="float[] y, int64[] i",
    ),
    Form(7, "float[2, 3] x", "Pad <pads = [0, 1, 1, 1], value = 0.5> (x)"),
    Form(7, "float[2, 3] x", 'Pad <pads = [0, 1, 0, 1], mode = "reflect"> (x)'),
    Form(13, "float[2, 3] x", 'Pad <mode = "edge"> (x, p)', "int64[4] p = {0, 1, 1, 1}"),
    Form(
        10,
        "float[2, 3] x",
        "QuantizeLinear(x, s, z)",
        "float s = {0.05}, uint8 z = {100}",
        outputs="uint8[] y",
    ),
    Form(11, "float[2, 3, 4] x", "ReduceMean <keepdims = 0> (x)", outputs="float y"),
    Form(11, "float[2, 3, 4] x", "ReduceSum <keepdims = 0> (x)", outputs="float y"),
    Form(7, "float[2, 3, 4] x", "Reshape(x, s)", "int64[2] s = {0, -1}"),
    Form(
        10, "float[1, 2, 4, 4] x", 'Resize <mode = "linear"> (x, s)', "float[4] s = {1, 1, 2, 1.5}"
    ),
    Form(
        10,
        "float[1, 2, 4, 4] x",
        'Resize <mode = "linear"> (x, s)',
        "float[4] s = {1, 1, 0.5, 0.6}",
    ),
    Form(10, "float[1, 2, 4, 4] x", "Resize(x, s)", "float[4] s = {1, 1, 2, 1.6}"),
    Form(10, "float[1, 2, 7, 7] x", "Resize(x, s)", "float[4] s = {1, 1, 0.7, 0.4}"),
    Form(10, "float[1, 2, 7, 7] x", "Resize(x, s)", "float[4] s = {1, 1, 0.7, 1.7}"),
    Form(
        11,
        "float[1, 2, 4, 4] x",
        'Resize <mode = "cubic"> (x, r, s)',
        "float[4] s = {1, 1, 2, 1.5}, float[0] r = {}",
    ),
    Form(
        11,
        "float[1, 2, 4, 4] x",
        'Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, r, r, s)',
        "int64[4] s = {1, 2, 7, 5}, float[0] r = {}",
    ),
    Form(
        11,
        "float[1, 2, 4, 4] x",
        'Resize <mode = "linear", coordinate_transformation_mode = "tf_half_pixel_for_nn"> '
        "(x, r, s)",
        "float[4] s = {1, 1, 0.5, 0.5}, float[0] r = {}",
    ),
    Form(7, "float[1, 2, 4, 4] x", 'Upsample <mode = "linear", scales = [1.0, 1.0, 2.0, 1.5]> (x)'),
    Form(7, "float[1, 2, 4, 4] x", "Upsample <scales = [1.0, 1.0, 2.0, 1.6]> (x)"),
    Form(
        9, "float[1, 2, 4, 4] x", 'Upsample <mode = "linear"> (x, s)', "float[4] s = {1, 1, 2, 1.5}"
    ),
    Form(9, "float[1, 2, 4, 4] x", "Upsample(x, s)", "float[4] s = {1, 1, 2, 1.7}"),
    Form(
        10,
        "float[1, 2, 6, 6] x",
        "RoiAlign <output_height = 2, output_width = 2> (x, r, i)",
        "float[1, 4] r = {0, 1, 4, 5}, int64[1] i = {0}",
    ),
    Form(
        9,
        "float[2, 3] x",
        "Scatter <axis = 0> (x, i, u)",
        "int64[1, 3] i = {1, 0, 1}, float[1, 3] u = {5, 6, 7}",
    ),
    Form(
        11,
        "float[2, 3] x",
        "ScatterElements <axis = 0> (x, i, u)",
        "int64[1, 3] i = {1, 0, 1}, float[1, 3] u = {5, 6, 7}",
    ),
    Form(
        11, "float[2, 3] x", "ScatterND(x, i, u)", "int64[1, 1] i = {1}, float[1, 3] u = {5, 6, 7}"
    ),
    Form(9, "float[2, 3] x", "Shape(x)", outputs="int64[] y"),
    Form(7, "float[4, 5] x", "Slice <starts = [1, -3], ends = [3, 9], axes = [0, 1]> (x)"),
    Form(7, "float[4, 5] x", "Slice <starts = [1], ends = [-1]> (x)"),
    Form(
        11,
        "float[4, 6] x",
        "y, z = Split <axis = -1, split = [2, 4]> (x)",
        outputs="float[] y, float[] z",
    ),
    Form(13, "float[4, 6] x", "y, z = Split <axis = 1> (x)", outputs="float[] y, float[] z"),
    Form(9, "float[4, 6] x", "y, z = Split <axis = 1> (x)", outputs="float[] y, float[] z"),
    Form(9, "float[1, 4, 1] x", "Squeeze(x)"),
    Form(11, "float[4] x", "Unsqueeze <axes = [0, -1]> (x)"),
    Form(9, "float[3, 5] x", "y, i = TopK <k = 2, axis = 0> (x)", outputs="float[] y, int64[] i"),
    Form(
        10, "float[3, 5] x", "y, i = TopK(x, k)", "int64[1] k = {2}", outputs="float[] y, int64[] i"
    ),
    Form(
        9,
        "int64[3] x",
        "k = Mul(x, m)  c = OneHot(k, d, v)  y = Identity(c)",
        "int64 d = {4}, float[2] v = {0, 1}, int64 m = {3}",
    ),
    Form(9, "float[2, 3, 4] x", "Flatten <axis = 2> (x)"),
    Form(7, "float[2, 3, 4] x, float[3, 1] s", "PRelu(x, s)"),
    Form(7, "float[2, 3] x, float[2, 3] z", "Max(x, z)"),
    Form(
        9,
        "float[1, 2, 4, 4] x, float[2, 3, 3, 3] w",
        'ConvTranspose <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w)',
    ),
    Form(
        9,
        "float[1, 2, 4, 4] x, float[2, 3, 3, 3] w",
        'ConvTranspose <auto_pad = "SAME_LOWER", strides = [2, 2]> (x, w)',
    ),
    Form(9, "float[3, 2] x", "Compress <axis = 0> (x, c)", "bool[3] c = {1, 0, 1}"),
    Form(7, "float[2, 3, 2, 2] x", "MeanVarianceNormalization(x)"),
    Form(
        10,
        "float[1, 4, 4] x, float[1, 1, 4] s",
        "NonMaxSuppression(x, s, m, t, u)",
        "int64 m = {3}, float t = {0.5}, float u = {0.1}",
        outputs="int64[] y",
    ),
    Form(10, "float[4] x, float[4] z", "Mod <fmod = 1> (x, z)"),
    Form(7, "float[4] x", "q = Abs(x)  y = Pow(q, e)", "float e = {2}"),
    Form(10, "float[1, 2, 7, 7] x, float[4] t", "s = Abs(t)  y = Resize(x, s)"),
    Form(
        18,
        "float[N, C, 3] x",
        "GroupNormalization <num_groups = 3> (x, s, b)",
        "float[3] s = {1, 2, 3}, float[3] b = {0, 1, 2}",
    ),
    Form(7, "float[2, 3, 2, 2] x", "MeanVarianceNormalization <across_channels = 1> (x)"),
    Form(7, "float[2, 3] x", "y, m = Dropout <ratio = 0.3> (x)", outputs="float[] y, float[] m"),
    Form(9, "float[2, 3, 4] x, int64[2] s", "r = Reshape(x, s)  y = Hardmax(r)"),
    Form(12, "float[2, 3, 4] x", "Hardmax <axis = 2> (x)"),
    Form(12, "float[2, 3, 4] x", "Hardmax <axis = -2> (x)"),
)
