"""The stages that raise a base model: initial pretraining and the extension of its context."""
