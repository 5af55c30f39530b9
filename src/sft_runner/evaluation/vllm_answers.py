"""Answers by vLLM: a server of its own for one model, asked with the token ids that were prepared, and gone after it.

It is asked for token ids as well, so both engines' answers are read by the same code. Of the model's generation
settings only the tokens that end an answer count, as with transformers.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.disk import read_json, write_json
from sft_runner.evaluation.engines import RANKS
from sft_runner.evaluation.generation import Answer, context_of, read, required_stops, room
from sft_runner.model.files import require
from sft_runner.model.memory import released
from sft_runner.model.rows import Rows
from sft_runner.serving import vllm
from sft_runner.serving.address import choose
from sft_runner.serving.completion import Question
from sft_runner.serving.server import Server
from sft_runner.stages.stage import Report

BASE, TUNED = "base", "tuned"
"""What requests call the model without and with its adapter."""
LOG = "vllm.log"
FILE = "engine.json"
"""Name and version of the engine, in the stage's folder."""
ANSWER_SECONDS = 3600.0
"""How long one answer may take, time in the queue counted."""
AT_ONCE = {True: 256, False: 16}
"""Requests under way at once, on a card and without one; vLLM batches them."""
KEPT_FREE = 0.02
"""Share of the card that stays free of what vLLM may take, besides what others have."""


@contextmanager
def writer(config: Config, folder: Path, trained: Path | None) -> Iterator[Callable[..., list[Answer]]]:
    """`answers` with the signature of `generation.answers`, and a server behind it from the first call on, which takes
    the weights of the model that it is given.

    Raises `MachineError` where vLLM is missing, `StageFailed` where it does not start or answer.
    """
    running: Server | None = None
    with ExitStack() as stack:

        def answers(
            model: Any, tokenizer: Any, rows: Rows, max_new_tokens: int, batch_size: int, report: Report
        ) -> list[Answer]:
            nonlocal running
            stops = required_stops(model, tokenizer)
            if running is None:
                report(message="starting vllm")
                running = stack.enter_context(_server(config, model, folder, trained, stops))
                version = {"engine": "vllm", "version": running.version, "seconds_to_ready": running.seconds_to_ready}
                write_json(folder / FILE, version)
            name = TUNED if "--enable-lora" in running.engine.arguments else BASE
            return _ask(running, name, tokenizer, rows, _limits(model, rows, max_new_tokens), stops, report)

        yield answers


def _server(config: Config, model: Any, folder: Path, trained: Path | None, stops: list[int]) -> Server:
    """The server, not started; the weights of `model` are gone, so that both never share a card."""
    base = require(config.model).resolve()
    whole = trained / "model" if trained and config.adapter == "none" else base
    adapter = trained / "adapter" if trained and config.adapter == "lora" else None
    length = config.data.max_length + config.evaluate.max_new_tokens
    context = context_of(model)
    released(model)
    config = replace(config, serve=replace(config.serve, gpu_memory_utilization=_share(config)))
    more = ("--tokenizer", str(base), "--generation-config", "vllm", "--seed", "0", *_adapted(adapter))
    place = choose(config.serve.host, 0)
    engine = vllm.engine(config, whole.resolve(), BASE, place, min(length, context or length), more)
    hello = Question(ids=stops[:1], stops=stops)
    return Server(engine, place, folder / LOG, config.serve.startup_timeout, hello)


def _adapted(adapter: Path | None) -> tuple[str, ...]:
    """The arguments for an adapter of PEFT's beside the base."""
    if adapter is None:
        return ()
    values = read_json(adapter / "adapter_config.json")
    rank = max([int(values["r"]), *(values.get("rank_pattern") or {}).values()])
    largest = next(size for size in RANKS if size >= rank)
    entry = {"name": TUNED, "path": str(adapter.resolve()), "base_model_name": BASE}  # JSON: a path may hold a "="
    return ("--enable-lora", "--max-lora-rank", str(largest), "--max-loras", "1", "--lora-modules", json.dumps(entry))


def _share(config: Config) -> float:
    """Share of the card that vLLM may take: as asked, but no more than is free, for it refuses to start otherwise."""
    import torch

    asked = config.serve.gpu_memory_utilization
    if config.hardware.memory_gb <= 0 or not torch.cuda.is_available():
        return asked
    free, total = torch.cuda.mem_get_info()
    return min(asked, round(free / total - KEPT_FREE, 3))


def _limits(model: Any, rows: Rows, max_new_tokens: int) -> list[int]:
    return [room(length, max_new_tokens, context_of(model)) for length in rows["prompt_length"]]


def _ask(
    running: Server, name: str, tokenizer: Any, rows: Rows, limits: list[int], stops: list[int], report: Report
) -> list[Answer]:
    """The answers in the order of the rows, many under way at once; the longest prompts first."""
    found = [Answer("", False)] * len(limits)
    lengths = list(rows["prompt_length"])
    asked = sorted((i for i, limit in enumerate(limits) if limit), key=lengths.__getitem__, reverse=True)
    at_once = AT_ONCE["--gpu-memory-utilization" in running.engine.arguments]
    pool = ThreadPoolExecutor(at_once, "vllm")

    def write(question: Question, limit: int) -> Answer:
        return read(tokenizer, running.ask(question, limit, name, ANSWER_SECONDS).ids, stops)

    try:
        pending = {}
        for index in asked:
            question = Question(ids=rows[index]["input_ids"][: lengths[index]], stops=stops)
            pending[pool.submit(write, question, limits[index])] = index
        for done, future in enumerate(as_completed(pending), len(limits) - len(asked) + 1):
            found[pending[future]] = future.result()
            report(step=done, steps=len(limits), message="generate")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return found
