"""Query strategies: which images to label next."""

from vizsla.strategy import auto, bayesian, diversity, hybrid, uncertainty
from vizsla.strategy.base import Strategy, View, strategies, sub_pool

__all__ = [
    "Strategy",
    "View",
    "auto",
    "bayesian",
    "diversity",
    "hybrid",
    "strategies",
    "sub_pool",
    "uncertainty",
]
