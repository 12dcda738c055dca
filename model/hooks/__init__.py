"""The Estimator's hooks, listeners and exporters, which watch a run."""
