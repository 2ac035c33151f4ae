"""Raw pages become documents, documents become token shards, shards become batches."""
