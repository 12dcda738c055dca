"""The pictures: one file per figure; each takes what is to be drawn, and returns a Figure."""
