"""Tasks that answer with scores, each with its 95 % interval."""
