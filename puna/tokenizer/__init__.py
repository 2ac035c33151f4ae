"""Bytes to ids and back: Llama 3's ranks, SentencePiece for Llama 1 and 2, and BPE training."""
