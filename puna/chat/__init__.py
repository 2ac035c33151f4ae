"""Dialogs become ids with a loss mask, and an answer's ids become a message with tool calls."""
