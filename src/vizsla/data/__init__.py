"""Image files: decoding them, finding them, and remembering which are labelled."""

from vizsla.data.images import IMAGE_SUFFIXES, load
from vizsla.data.indexed import IndexedDataset
from vizsla.data.sources import FolderClasses, folder_classes, scan

__all__ = ["IMAGE_SUFFIXES", "FolderClasses", "IndexedDataset", "folder_classes", "load", "scan"]
