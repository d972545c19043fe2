"""The MLX engine: all that knows arrays, cache classes, tokenizer files and model folders."""
