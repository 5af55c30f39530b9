"""`stage=serve`: the server that stays up until Ctrl-C."""

from collections.abc import Callable
from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.serving.completion import curl
from sft_runner.serving.server import server


def stay(config: Config, model: Path, name: str, tell: Callable[[str], None], question: str = "Hello") -> None:
    """Serve the model in folder `model` as `name` on `serve.port` until Ctrl-C.

    `tell` gets lines for the user; the command it is told asks `question`. Raises `StageFailed` when the server dies.
    """
    folder = Path(config.output_dir).absolute() / "servers"
    planned = server(config, model, name, folder / "starting.log", config.serve.port)
    planned.log = folder / f"{planned.address.port}.log"
    tell(f"serve: starting {planned.engine.name}, log: {planned.log}")
    try:
        with planned as running:
            tell(f"serve: {name} answers at {running.address.url}/v1 after {running.seconds_to_ready:.1f} s")
            tell(curl(running.address, name, question, config.serve.max_tokens))
            tell("Ctrl-C stops it")
            running.wait()
    except KeyboardInterrupt:
        tell("serve: stopped")
