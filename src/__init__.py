"""All code that needs only Python and NumPy: params, data, sampling, metrics, projector files."""
