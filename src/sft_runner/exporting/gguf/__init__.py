"""One file for llama.cpp and everything that is built on it.

The package `gguf`, which llama.cpp's own converter is built on, knows the file format, the tensors' names and the
quantisation. What it lacks is here: what each family's weights and settings become.
"""
