"""One model on many devices: a mesh of ranks, the shard of each, and the links between them."""
