"""Everything that needs Python and NumPy only: params, data, sampling, metrics, projector files."""
