"""A run folder, told on one self-contained page."""
