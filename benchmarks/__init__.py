"""What the numbers of the documentation are measured by: speeds, as ratios in one run; studies."""
