"""`transformers serve`: in every environment of the runner, one request at a time, on the CPU too."""

from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.serving.address import Address
from sft_runner.serving.engine import Engine, Package, interpreter

PACKAGE = Package(
    name="transformers",
    needs=("transformers", "fastapi", "uvicorn", "openai", "pydantic"),
    remedy="pip install 'transformers[serving]', or serve.python=PATH of an environment that has it",
)


def engine(config: Config, model: Path, name: str, address: Address) -> Engine:
    """Pinned to one model: without that argument any client could make it load any other."""
    return Engine(
        package=PACKAGE,
        python=interpreter(config),
        arguments=(
            *("-m", "transformers.cli.transformers", "serve", name),
            *("--host", address.host),
            *("--port", str(address.port)),
            *("--device", "cuda" if config.hardware.memory_gb > 0 else "cpu"),
            *("--dtype", config.hardware.dtype),
        ),
        model=model,
        served_name=name,
    )
