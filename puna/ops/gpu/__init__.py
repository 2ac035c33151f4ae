"""Products, rounding and attention on a GPU, where torch has no operation for them."""
