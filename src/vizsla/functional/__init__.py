"""Pure functions over arrays: the part that must be right."""

from vizsla.functional.noise import suspects
from vizsla.functional.uncertainty import least_confidence, margin

__all__ = ["least_confidence", "margin", "suspects"]
