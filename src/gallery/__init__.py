"""The gallery: pictures of known classes, against which others are compared."""
