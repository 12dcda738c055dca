"""What watches a run: the Estimator's hooks, listeners and exporters."""
