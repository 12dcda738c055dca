"""`params.json`: its schema, its reading, its reference."""
