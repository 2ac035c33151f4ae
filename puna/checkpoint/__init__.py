"""Weights on disk: every published format, read lazily and written whole or not at all."""
