"""How pictures look; the pictures themselves are in `src/figures`."""
