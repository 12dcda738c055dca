"""The gallery: pictures of known classes, against which others are compared."""

from src.gallery.answer import Answer, Neighbour
from src.gallery.gallery import Gallery

__all__ = ["Answer", "Gallery", "Neighbour"]
