"""Settings of a recipe that nothing reads, besides those that the pipeline itself warns of."""

from collections.abc import Iterator, Sequence

from sft_runner.config.schema import Config
from sft_runner.config.schema_evaluate import without_use
from sft_runner.evaluation import names

VLLM = ("max_model_len", "gpu_memory_utilization", "tensor_parallel_size", "enforce_eager")
"""Keys of `serve` that vLLM alone reads, where it serves and where it scores."""
TRACKERS = ("mlflow", "tensorboard", "wandb")


def unused(asked: Config, said: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Those of the keys that a file says which nothing reads, each with the reason."""
    reasons = dict(_reasons(asked))
    for key in said:
        if reason := next((why for part, why in reasons.items() if key == part or key.startswith(f"{part}.")), None):
            yield key, reason


def _reasons(asked: Config) -> Iterator[tuple[str, str]]:
    """Key -> why nothing reads it."""
    watched = names.generated(asked.train.early_stopping.metric)
    for key in without_use(asked.evaluate):
        if key != "evaluate.pattern" and not (watched and key == "evaluate.max_new_tokens"):  # the pipeline tells it
            what = "evaluate.benchmarks is empty" if "benchmarks" in key else "evaluate.metrics needs no answers"
            yield key, what
    if asked.serve.engine != "vllm" and asked.evaluate.engine == "transformers":
        yield from ((f"serve.{key}", "neither serve.engine nor evaluate.engine is vllm") for key in VLLM)
    if asked.data.format not in ("auto", "docs") and not asked.data.sources:
        yield "data.documents", f"data.format={asked.data.format} has no documents"
    if not asked.export or "gguf" not in asked.export and "ollama" not in asked.export:
        yield "gguf", "export does not name gguf"
    for name in TRACKERS:
        if not getattr(asked.tracking, name).enabled:
            yield f"tracking.{name}", f"tracking does not name {name}"
