"""One decoder on one device: its shape, its layers, its cache, and the family of released sizes."""
