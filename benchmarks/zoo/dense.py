"""Models that say something of every place: segmentation, detection, depth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from benchmarks.zoo.specimen import PIXELS, from_config

_RESNET: Final[tuple[str, Mapping[str, Any]]] = (
    "ResNetConfig",
    {
        "hidden_sizes": [32, 64, 128, 128],
        "depths": [1, 1, 1, 1],
        "embedding_size": 32,
        "layer_type": "basic",
        "out_features": ["stage4"],
    },
)
_CONVNEXT: Final[tuple[str, Mapping[str, Any]]] = (
    "ConvNextConfig",
    {
        "hidden_sizes": [32, 64, 96, 128],
        "depths": [1, 1, 2, 1],
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
)
_BOXES = ("logits", "pred_boxes")
_DETR: Final[dict[str, Any]] = {
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512,
    "num_queries": 10,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
}

_dense = partial(from_config, family="segmentation, detection, depth")

DENSE: Final = (
    _dense(
        "segformer",
        "SegformerForSemanticSegmentation",
        (PIXELS,),
        "logits",
        hidden_sizes=[32, 64, 96, 128],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=128,
        num_attention_heads=[2, 4, 4, 8],
    ),
    _dense(
        "upernet",
        "UperNetForSemanticSegmentation",
        (PIXELS,),
        "logits",
        within=_CONVNEXT,
        hidden_size=64,
        auxiliary_in_channels=96,
        auxiliary_channels=32,
    ),
    _dense("detr", "DetrForObjectDetection", (PIXELS,), _BOXES, within=_RESNET, **_DETR),
    _dense(
        "conditional-detr",
        "ConditionalDetrForObjectDetection",
        (PIXELS,),
        _BOXES,
        within=_RESNET,
        **_DETR,
    ),
    _dense(
        "yolos",
        "YolosForObjectDetection",
        (PIXELS,),
        _BOXES,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=8,
        intermediate_size=512,
        image_size=[64, 64],
        patch_size=8,
        num_detection_tokens=10,
    ),
    _dense(
        "glpn",
        "GLPNForDepthEstimation",
        (PIXELS,),
        "predicted_depth",
        hidden_sizes=[32, 64, 96, 128],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=64,
        num_attention_heads=[2, 4, 4, 8],
    ),
    _dense(
        "dpt",
        "DPTForDepthEstimation",
        (PIXELS,),
        "predicted_depth",
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=8,
        intermediate_size=512,
        image_size=64,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[32, 64, 96, 128],
        fusion_hidden_size=64,
    ),
    _dense(
        "swin2sr",
        "Swin2SRForImageSuperResolution",
        (PIXELS,),
        "reconstruction",
        image_size=32,
        embed_dim=64,
        depths=[2, 2],
        num_heads=[4, 4],
        window_size=8,
    ),
)
