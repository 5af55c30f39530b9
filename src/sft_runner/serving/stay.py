"""`stage=serve`: the server that stays up until Ctrl-C."""

from collections.abc import Callable
from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.serving.address import choose
from sft_runner.serving.completion import curl
from sft_runner.serving.server import server


def stay(config: Config, model: Path, name: str, tell: Callable[[str], None], question: str = "Hello") -> None:
    """Serve the model in folder `model` as `name` on `serve.port` until Ctrl-C.

    `tell` gets lines for the user; the command it is told asks `question`. Raises `StageFailed` when the server dies.
    """
    place = choose(config.serve.host, config.serve.port)
    log = Path(config.output_dir).absolute() / "servers" / f"{place.port}.log"
    planned = server(config, model, name, place, log)
    tell(f"serve: starting {planned.engine.name}, log: {log}")
    try:
        with planned as running:
            tell(f"serve: {name} answers at {place.url}/v1 after {running.seconds_to_ready:.1f} s")
            tell(curl(place, name, question, config.serve.max_tokens))
            tell("Ctrl-C stops it")
            running.wait()
    except KeyboardInterrupt:
        tell("serve: stopped")
