"""Tests of `puna.tools.compute`."""
