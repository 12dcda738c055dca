"""Drawing tools shared by the pictures in `src/figures`: style, scatter plots, pages, GIFs."""
