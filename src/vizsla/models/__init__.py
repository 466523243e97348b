"""What looks at images: backbones, embeddings, and heads that learn on them."""

from vizsla.models import blend, heads

__all__ = ["blend", "heads"]
