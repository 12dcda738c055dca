"""Drawing tools shared by the figures in `src/figures`: style, scatter plots, pages, GIFs."""
