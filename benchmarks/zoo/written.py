"""What transformers does not have, written in plain torch."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks.zoo.inputs import Input
from benchmarks.zoo.modules import branching, diffusion, images, mobile, recurrent, residual
from benchmarks.zoo.specimen import Specimen

_TIMES: Final = 8
_TOKENS = Input("input_ids", ("batch", "sequence"), tokens=recurrent.VOCABULARY)

_plain = partial(Specimen, family="plain torch", inputs=(Input("image", ("batch", 3, 16, 16)),))

WRITTEN: Final = (
    _plain(name="densenet", create=partial(branching.densenet, _TIMES)),
    _plain(name="inception", create=partial(branching.inception, _TIMES)),
    _plain(name="vgg", create=partial(branching.vgg, _TIMES)),
    _plain(name="resnext", create=partial(residual.resnext, _TIMES)),
    _plain(name="mobilenet-v3", create=partial(mobile.mobilenet_v3, _TIMES)),
    _plain(name="shufflenet-v2", create=partial(mobile.shufflenet_v2, _TIMES)),
    _plain(name="unet", create=partial(images.UNet, _TIMES)),
    _plain(name="super-resolution", create=partial(images.super_resolution, _TIMES)),
    _plain(name="denoiser", create=partial(diffusion.denoiser, _TIMES)),
    _plain(
        name="bidirectional-lstm",
        create=partial(recurrent.BidirectionalLstm, _TIMES),
        inputs=(_TOKENS,),
    ),
    _plain(
        name="gru",
        create=partial(recurrent.Gru, _TIMES),
        inputs=(Input("signal", ("batch", 9, 6)),),
    ),
    _plain(
        name="gated-conv",
        create=partial(recurrent.GatedConv, _TIMES),
        inputs=(Input("signal", ("batch", 4, 16)),),
    ),
)
