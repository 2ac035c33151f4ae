"""Models over HTTP: the API of OpenAI, several models, tools, metrics and a chat page."""
