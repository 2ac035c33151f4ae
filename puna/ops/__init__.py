"""Pure functions on tensors; the readable reference stands beside whatever is faster."""
