"""Requests to tokens: sampling, stop conditions, batches that decode together."""
