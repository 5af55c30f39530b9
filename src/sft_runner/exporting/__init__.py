"""The forms in which a tuned model is handed on: adapter, whole model with its card, GGUF, Ollama, one archive."""
