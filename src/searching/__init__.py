"""Search: params proposed one training after the other, bad trainings stopped early, a winner."""
