"""The lock of a recipe: what it is made of, to the byte, for each hardware preset."""
