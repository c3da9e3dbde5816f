"""Models in GGUF files: which file a name means, what the file says, and its conversion to transformers' format."""
