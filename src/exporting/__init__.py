"""What stands beside exported models: the record of their checks, and the model card."""
