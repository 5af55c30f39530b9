"""The installed packages on which a result hangs, by their metadata alone: nothing is imported."""

from functools import cache
from importlib import metadata

from sft_runner.config.schema import Config
from sft_runner.evaluation import names

ALWAYS = ("accelerate", "datasets", "peft", "sft-runner", "tokenizers", "torch", "transformers", "trl")
OPTIMIZERS = ("8bit", "bnb", "paged")
"""What is in the names of optimizers that bitsandbytes has."""


def wanted(config: Config) -> list[str]:
    """The packages that take part in what a run of this configuration makes, sorted."""
    found = {*ALWAYS}
    if config.quantization.bits != "none" or any(word in config.hardware.optim for word in OPTIMIZERS):
        found.add("bitsandbytes")
    if "vllm" in (config.serve.engine, config.evaluate.engine):
        found.add("vllm")
    if config.evaluate.benchmarks:
        found.add("lm-eval")
    if {"gguf", "ollama"} & {*config.export}:
        found.add("gguf")
    for name in config.evaluate.metrics:
        if metric := names.METRICS.get(name):
            found |= {metric.source} - {""}
        elif name in names.plugins() and (package := names.plugins()[name].dist):
            found.add(package.name)
    return sorted(found)


@cache
def version(package: str) -> str | None:
    """The installed version without its local part (`+cu128` names the build, not the code); None without one."""
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None
