"""The installed packages on which a result hangs, by their metadata alone: nothing is imported."""

import os
from functools import cache
from importlib import metadata
from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.evaluation import names
from sft_runner.serving import vllm

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

    vLLM serves from the environment of `serve.python`, in which it is looked up by the names of folders alone.
    """
    found = {name: version(name) for name in wanted(config)}
    if vllm.PACKAGE.name in found and vllm.PACKAGE.name == config.serve.engine and config.serve.python:
        found[vllm.PACKAGE.name] = _elsewhere(vllm.PACKAGE.name, config.serve.python)
    return found


@cache
def version(package: str) -> str | None:
    """The installed version without its local part (`+cu128` names the build, not the code); None without one."""
    try:
        return _plain(metadata.version(package))
    except metadata.PackageNotFoundError:
        return None


def _elsewhere(package: str, python: str) -> str | None:
    """The version in another interpreter's environment; None where that does not tell it.

    The interpreter is named by a recipe, which may be a stranger's that is only looked at: it is not run, and no file
    of its environment is opened.
    """
    home = Path(os.path.expanduser(python)).absolute().parents[1:2]  # not resolved: a link is what makes an environment
    found = {
        _plain(info.name.removeprefix(f"{package}-").removesuffix(".dist-info"))
        for folder in home
        for library in ("lib", "lib64")
        for info in folder.glob(f"{library}/python*/site-packages/{package}-*.dist-info")
    }
    return found.pop() if len(found) == 1 else None


def _plain(version: str) -> str:
    return version.partition("+")[0]
