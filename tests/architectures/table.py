"""The table of architectures."""

from __future__ import annotations

from typing import Final

from benchmarks.zoo.modules import branching, diffusion, images, mobile, recurrent, residual

from . import attention, windows
from .specification import Architecture, Exporter, Input

_TOKENS = Input("input_ids", ("batch", "sequence"), tokens=attention.VOCABULARY)
_MASK = Input("attention_mask", ("batch", "sequence"), mask=True)
_SIGNAL = Input("signal", ("batch", 4, 16))
_FRAMES = Input("signal", ("batch", 9, 6))

ARCHITECTURES: Final = (
    Architecture("resnet-basic", residual.basic_resnet),
    Architecture("resnet-bottleneck", residual.bottleneck_resnet),
    Architecture("resnet-option-a", residual.option_a_resnet),
    Architecture("resnext", residual.resnext),
    Architecture("shared-tensors", residual.SharedTensors),
    Architecture("mobilenet-v2", mobile.mobilenet_v2),
    Architecture("mobilenet-v3", mobile.mobilenet_v3),
    Architecture("shufflenet-v2", mobile.shufflenet_v2),
    Architecture("convnext", mobile.convnext),
    Architecture("densenet", branching.densenet),
    Architecture("inception", branching.inception),
    Architecture("vgg", branching.vgg),
    Architecture("unet", images.UNet),
    Architecture("super-resolution", images.super_resolution),
    Architecture("prelu", images.prelu),
    Architecture("other-norms", images.other_norms),
    Architecture(
        "tracked-instance-norm",
        images.tracked_instance_norm,
        refused=dict.fromkeys(
            (Exporter.TRACED, Exporter.TRACED_UNFOLDED),
            "instance_norm training for unknown batch size",
        ),
    ),
    Architecture("denoiser", diffusion.denoiser),
    Architecture("swin", windows.Swin),
    Architecture("vit", attention.vit),
    Architecture("vit-torch-attention", attention.vit_torch_attention),
    Architecture("bert", attention.Bert, (_TOKENS, _MASK)),
    Architecture("sdpa-encoder", attention.SdpaEncoder, (_TOKENS, _MASK)),
    Architecture("gpt", attention.Gpt, (_TOKENS,)),
    Architecture("bidirectional-lstm", recurrent.BidirectionalLstm, (_TOKENS,)),
    Architecture("gru", recurrent.Gru, (_FRAMES,)),
    Architecture("gated-conv", recurrent.GatedConv, (_SIGNAL,)),
)

EXPORTS: Final = tuple(
    (architecture, exporter)
    for architecture in ARCHITECTURES
    for exporter in Exporter
    if exporter not in architecture.refused
)
"""Every architecture with each exporter that takes it."""

REFUSALS: Final = tuple(
    (architecture, exporter) for architecture in ARCHITECTURES for exporter in architecture.refused
)
"""Every architecture with each exporter that does not."""
