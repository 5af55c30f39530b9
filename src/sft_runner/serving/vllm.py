"""vLLM's OpenAI server: many requests at once, in this environment or in that of `serve.python`."""

import json
import os
from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.serving.address import Address
from sft_runner.serving.engine import Engine, Package, interpreter

PACKAGE = Package(
    name="vllm",
    needs=("vllm",),
    remedy="pip install 'sft-runner[vllm]', or serve.python=PATH of an environment that has it",
)
CPU_CACHE_GB = "1"
"""Memory for keys and values on the CPU, in GiB, where `VLLM_CPU_KVCACHE_SPACE` does not say otherwise."""


def engine(
    config: Config, model: Path, name: str, address: Address, length: int = 0, more: tuple[str, ...] = ()
) -> Engine:
    """The module, not the console script, which does not start in builds that are named otherwise.

    `length` stands in for what `max_model_len` finds; `more` are further arguments.
    """
    serve = config.serve
    accelerator: tuple[str, ...] = ()
    environment = {"VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": address.host}  # its processes meet on loopback too
    if config.hardware.memory_gb > 0:
        accelerator = (
            *("--gpu-memory-utilization", str(serve.gpu_memory_utilization)),
            *("--tensor-parallel-size", str(serve.tensor_parallel_size)),
        )
    else:
        environment["VLLM_CPU_KVCACHE_SPACE"] = os.environ.get("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE_GB)
    eager = serve.enforce_eager or not accelerator  # compiling for the CPU takes longer than it saves
    return Engine(
        package=PACKAGE,
        python=interpreter(config),
        arguments=(
            *("-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(model)),
            *("--served-model-name", name),
            *("--host", address.host),
            *("--port", str(address.port)),
            *("--max-model-len", str(length or max_model_len(config, model))),
            *("--dtype", config.hardware.dtype),
            *accelerator,
            *(("--enforce-eager",) if eager else ()),
            *more,
        ),
        model=model,
        served_name=name,
        environment=environment,
    )


def max_model_len(config: Config, model: Path) -> int:
    """Tokens of prompt and answer together: what training saw and an answer, within what the model can see."""
    if config.serve.max_model_len is not None:
        return config.serve.max_model_len
    wanted = config.data.max_length + max(config.evaluate.max_new_tokens, config.serve.max_tokens)
    known = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return min(wanted, known.get("max_position_embeddings") or wanted)
