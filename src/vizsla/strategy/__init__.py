"""Query strategies: which images to label next."""

from vizsla.strategy import uncertainty
from vizsla.strategy.base import Strategy, View, strategies, sub_pool

__all__ = ["Strategy", "View", "strategies", "sub_pool", "uncertainty"]
