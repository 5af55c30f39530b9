"""A file of another program becomes a recipe: axolotl, LLaMA-Factory and TRL, with what became of each of its keys."""
