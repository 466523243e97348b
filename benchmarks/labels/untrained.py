"""A backbone that has learned nothing: what a strategy may expect at worst."""

from __future__ import annotations

import timm
import torch
from torch import nn

from vizsla.models.backbones import Transform


def untrained() -> tuple[nn.Module, Transform]:
    """EfficientNet-Lite0 with the weights that chance gave it."""
    torch.manual_seed(0)
    module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    return module.eval(), Transform(224, mean=(0.498, 0.498, 0.498), std=(0.502, 0.502, 0.502))
