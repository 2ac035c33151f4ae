"""What raising a base model needs beyond the training loop: the extension of its context."""
