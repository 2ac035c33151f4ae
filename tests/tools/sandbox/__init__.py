"""Proofs of the sandbox: what works in it, and what does not get out of it."""
