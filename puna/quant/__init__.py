"""Fewer bits a weight: number formats, calibration, linear layers and the cache in low bits."""
