"""What the forms of `export` need, told before anything runs. Light: planning reads it."""

from collections.abc import Iterator
from importlib.util import find_spec

from sft_runner.config.schema import EXPORTS, Config
from sft_runner.errors import MachineError, UnknownName, UserError
from sft_runner.exporting.gguf.families import family
from sft_runner.model.architecture import Architecture


def mistakes(config: Config, known: Architecture | None) -> Iterator[UserError]:
    """What cannot be exported as it is asked for; `known` is the model's shape, as far as it is known."""
    for form in config.export:
        if form not in EXPORTS:
            yield UnknownName("form", form, EXPORTS, "export: ")
    if config.stage.until == "export" and not config.export:
        yield UserError("stage=export: export is empty", f"name forms, such as export=[{EXPORTS[1]}]")
    if config.adapter == "none" and "adapter" in config.export:
        hint = "take adapter out of export; export=[safetensors] is the model that was trained"
        yield UserError("export: there is no adapter with method=full, which trains the whole model", hint)
    if "ollama" in config.export and not {"gguf", "safetensors"} & set(config.export):
        hint = "use export=[gguf,ollama]"
        yield UserError("export: ollama needs the weights in a form that Ollama reads", hint)
    if "gguf" in config.export and known is not None:
        try:
            family(known.model_type, known.tie_word_embeddings)
        except UserError as error:
            yield error


def check(config: Config) -> None:
    """Raise `MachineError` where a form needs a package that is not installed."""
    if "gguf" in config.export and find_spec("gguf") is None:
        raise MachineError("export: gguf needs the package gguf", 'install it with: pip install "sft-runner[gguf]"')
