"""`params.json`: its schema, its error messages and its reference page."""
