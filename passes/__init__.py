"""The library of graph rewrites, one pass a file, installed as `onnxcompress.passes`."""

if __name__ != "onnxcompress.passes":
    raise ImportError("import onnxcompress.passes, not passes: two copies of a pass are two types")

from onnxcompress.pass_base import Pass
from onnxcompress.passes.binarize_weights import BinarizeWeights
from onnxcompress.passes.convert_float import ConvertFloat
from onnxcompress.passes.correct_bias import CorrectBias
from onnxcompress.passes.distill import Distill
from onnxcompress.passes.drop_block import DropBlock
from onnxcompress.passes.equalize_channels import EqualizeChannels
from onnxcompress.passes.factorize_weights import FactorizeWeights
from onnxcompress.passes.fine_tune import FineTune
from onnxcompress.passes.fold_affine import FoldAffine
from onnxcompress.passes.fold_batchnorm import FoldBatchNorm
from onnxcompress.passes.fold_constants import FoldConstants
from onnxcompress.passes.fold_pad import FoldPad
from onnxcompress.passes.gptq import GPTQ
from onnxcompress.passes.merge_duplicates import MergeDuplicates
from onnxcompress.passes.merge_matmuls import MergeMatMuls
from onnxcompress.passes.palettize_weights import PalettizeWeights
from onnxcompress.passes.prune_channels import PruneChannels
from onnxcompress.passes.prune_vocabulary import PruneVocabulary
from onnxcompress.passes.prune_weights import PruneWeights
from onnxcompress.passes.quantize_dynamic import QuantizeDynamic
from onnxcompress.passes.quantize_fixed_point import QuantizeFixedPoint
from onnxcompress.passes.quantize_static import QuantizeStatic
from onnxcompress.passes.quantize_tied_table import QuantizeTiedTable
from onnxcompress.passes.quantize_weights import QuantizeWeights
from onnxcompress.passes.refit_weights import RefitWeights
from onnxcompress.passes.regrow_channels import RegrowChannels
from onnxcompress.passes.regrow_weights import RegrowWeights
from onnxcompress.passes.remove_noops import RemoveNoOps
from onnxcompress.passes.remove_unused import RemoveUnused
from onnxcompress.passes.round_adaptively import RoundAdaptively
from onnxcompress.passes.smooth_activations import SmoothActivations
from onnxcompress.passes.store_sparse import StoreSparse
from onnxcompress.passes.strip_pruned import StripPruned
from onnxcompress.passes.swap_subgraph import SwapSubgraph
from onnxcompress.passes.ternarize_weights import TernarizeWeights
from onnxcompress.passes.unfuse_skip_norm import UnfuseSkipNorm
from onnxcompress.passes.use_float32 import UseFloat32

PASSES: tuple[type[Pass], ...] = (
    FoldConstants,
    RemoveNoOps,
    FoldPad,
    FoldBatchNorm,
    FoldAffine,
    MergeDuplicates,
    MergeMatMuls,
    UnfuseSkipNorm,
    RemoveUnused,
    UseFloat32,
    PruneVocabulary,
    PruneWeights,
    PruneChannels,
    RegrowWeights,
    RegrowChannels,
    RefitWeights,
    StripPruned,
    DropBlock,
    FactorizeWeights,
    SwapSubgraph,
    FineTune,
    Distill,
    EqualizeChannels,
    SmoothActivations,
    RoundAdaptively,
    QuantizeStatic,
    CorrectBias,
    QuantizeDynamic,
    QuantizeTiedTable,
    QuantizeWeights,
    GPTQ,
    QuantizeFixedPoint,
    PalettizeWeights,
    TernarizeWeights,
    BinarizeWeights,
    ConvertFloat,
    StoreSparse,
)
"""Every pass that comes with the package, clean-up first."""

__all__ = [
    "GPTQ",
    "PASSES",
    "BinarizeWeights",
    "ConvertFloat",
    "CorrectBias",
    "Distill",
    "DropBlock",
    "EqualizeChannels",
    "FactorizeWeights",
    "FineTune",
    "FoldAffine",
    "FoldBatchNorm",
    "FoldConstants",
    "FoldPad",
    "MergeDuplicates",
    "MergeMatMuls",
    "PalettizeWeights",
    "PruneChannels",
    "PruneVocabulary",
    "PruneWeights",
    "QuantizeDynamic",
    "QuantizeFixedPoint",
    "QuantizeStatic",
    "QuantizeTiedTable",
    "QuantizeWeights",
    "RefitWeights",
    "RegrowChannels",
    "RegrowWeights",
    "RemoveNoOps",
    "RemoveUnused",
    "RoundAdaptively",
    "SmoothActivations",
    "StoreSparse",
    "StripPruned",
    "SwapSubgraph",
    "TernarizeWeights",
    "UnfuseSkipNorm",
    "UseFloat32",
]
