"""A Modelfile for Ollama, whose template is proven to write the prompts of training."""
