"""Vectors that tell whether a template, a parser or a server speaks Llama 3.1 rightly."""
