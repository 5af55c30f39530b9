"""What `data.path` and `data.sources` mean: places on this machine, on the hub or in git, and their files."""

from sft_runner.data.sources.source import Source, sources_of, told_of

__all__ = ["Source", "sources_of", "told_of"]
