"""What a model may call, and the loop that calls it until the model answers."""
