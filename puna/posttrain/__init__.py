"""From a base model to an assistant: dialogs, fine-tuning, preferences."""
