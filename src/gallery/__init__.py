"""The gallery: pictures of known classes, against which others are compared."""

from src.gallery.gallery import Answer, Gallery, Neighbour

__all__ = ["Answer", "Gallery", "Neighbour"]
