"""The sandbox: a stateful Python session for code that nobody has read."""
