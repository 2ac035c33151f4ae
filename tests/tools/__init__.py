"""Tests of the room `puna.tools`."""
