"""Tests of the room `puna.chat`."""
