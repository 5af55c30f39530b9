"""The installed packages on which a result hangs, by their metadata alone: nothing is imported."""

from functools import cache
from importlib import metadata

from sft_runner.config.schema import Config
from sft_runner.errors import MachineError
from sft_runner.evaluation import names
from sft_runner.serving import engine, vllm

ALWAYS = ("accelerate", "datasets", "jinja2", "peft", "sft-runner", "tokenizers", "torch", "transformers", "trl")
OPTIMIZERS = ("8bit", "bnb", "paged")
"""What is in the names of optimizers that bitsandbytes has."""


def wanted(config: Config) -> list[str]:
    """The packages that take part in what a run of this configuration makes, sorted."""
    found = {*ALWAYS}
    if config.quantization.bits != "none" or any(word in config.hardware.optim for word in OPTIMIZERS):
        found.add("bitsandbytes")
    if "vllm" in (config.serve.engine, config.evaluate.engine):
        found.add("vllm")
    if "flash_attention" in (config.hardware.attn_implementation or ""):
        found.add("flash-attn")
    if config.train.extra.get("use_liger_kernel"):
        found.add("liger-kernel")
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


def versions(config: Config) -> dict[str, str | None]:
    """The packages that take part, each with its version where it runs; None where it is not installed.

    vLLM serves from the environment of `serve.python`, which is asked.
    """
    found = {name: version(name) for name in wanted(config)}
    if vllm.PACKAGE.name in found and vllm.PACKAGE.name == config.serve.engine and config.serve.python:
        found[vllm.PACKAGE.name] = _elsewhere(config)
    return found


@cache
def version(package: str) -> str | None:
    """The installed version without its local part (`+cu128` names the build, not the code); None without one."""
    try:
        return _plain(metadata.version(package))
    except metadata.PackageNotFoundError:
        return None


def _elsewhere(config: Config) -> str | None:
    try:
        return _plain(_asked(engine.interpreter(config)))
    except MachineError:
        return None


@cache
def _asked(python: str) -> str:
    return engine.require(vllm.PACKAGE, python)


def _plain(version: str) -> str:
    return version.partition("+")[0]
