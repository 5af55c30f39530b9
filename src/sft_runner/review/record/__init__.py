"""The measured results of a recipe, in a table beside it: `recipes/NAME.results.md`."""
