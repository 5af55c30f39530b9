"""Prove that what is served is what was trained: a real server, a real question, and the token ids of training.

A served prompt that differs from the trained one in a single token makes a good model look bad, and nothing else
would show it. The server is stopped again; `stage=serve` starts one that stays.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.errors import DataError, StageFailed
from sft_runner.stages.stage import Report, Result

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHECKED_ROWS = 100
"""Held-out rows whose prompts are compared; one is also sent."""
CONTEXT_TOKENS = 16
"""Tokens shown on each side of the first difference."""


class Serve:
    """`check.json`: question, answer, what was expected, and how long it took; `server.log`."""

    name = "serve"
    version = 1
    reads: tuple[str, ...] = ("serve", "hardware.dtype")
    inputs: tuple[str, ...] = ("prepare", "merge")
    model = ""
    data = False
    gpu = True
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Compare prompts, start the server on a free port, ask the first held-out question, stop it."""
        from transformers import AutoTokenizer

        from sft_runner.disk import write_json
        from sft_runner.model.rows import first_rows
        from sft_runner.serving.address import choose
        from sft_runner.serving.server import server

        prepared, model = inputs["prepare"], inputs["merge"] / "model"
        rows = first_rows(prepared / "held_out", CHECKED_ROWS) or first_rows(prepared / "train", CHECKED_ROWS)
        if rows is None:
            raise DataError("data.path: no row was prepared to ask the server with", "give more rows")
        report(step=0, steps=2, message=f"prompts of {len(rows)} rows")
        check_prompts(AutoTokenizer.from_pretrained(model), rows)

        report(step=1, steps=2, message=f"starting {config.serve.engine}")
        row = rows[0]
        *question, expected = json.loads(row["messages"])
        place = choose(config.serve.host, 0)  # the port of `stage=serve` may well be in use by an earlier model
        with server(config, model, config.name, place, folder / "server.log") as running:
            answer = running.ask(question, config.serve.max_tokens)
        check_count(row, answer.prompt_tokens)
        timing = {"seconds_to_ready": running.seconds_to_ready, "seconds_to_answer": answer.seconds}
        counts = {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "prompts_checked": len(rows),
        }
        check = {
            "source": row["source"],
            "question": question,
            "answer": answer.text,
            "expected": expected["content"],
            "finish_reason": answer.finish_reason,
            **counts,
            **timing,
            "engine": running.engine.name,
            "engine_version": running.version,
        }
        write_json(folder / "check.json", check)
        report(step=2, steps=2, message="answered")
        return Result({**timing, **counts}, artifacts=["check.json"])


def check_prompts(tokenizer: "PreTrainedTokenizerBase", rows: Any) -> None:
    """Raise `StageFailed` at the first row whose prompt the served tokenizer turns into other ids than training."""
    from jinja2 import TemplateError

    for row in rows:
        trained = list(row["input_ids"][: row["prompt_length"]])
        messages = json.loads(row["messages"])[:-1]
        try:
            served: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        except (TemplateError, ValueError) as error:  # ValueError: it has no template at all
            raise StageFailed(f"row {row['source']}: the served model's chat template fails: {error}", _AGAIN) from None
        if served != trained:
            raise _different(tokenizer, row["source"], served, trained)


def check_count(row: Mapping[str, Any], prompt_tokens: int) -> None:
    """Raise `StageFailed` where the server saw another number of prompt tokens than training."""
    if prompt_tokens != row["prompt_length"]:
        raise StageFailed(
            f"row {row['source']}: the server counted {prompt_tokens} prompt tokens, training {row['prompt_length']}",
            "the engine adds or drops tokens around the chat template; see the server's log",
        )


_AGAIN = "the merged model's tokenizer or chat template is not the one of training; run again with force=[merge]"


def _different(tokenizer: "PreTrainedTokenizerBase", source: str, served: list[int], trained: list[int]) -> StageFailed:
    """What differs first, and how both look there."""
    pairs = enumerate(zip(served, trained, strict=False))
    position = next((i for i, (a, b) in pairs if a != b), min(len(served), len(trained)))
    around = slice(max(0, position - CONTEXT_TOKENS), position + CONTEXT_TOKENS)
    return StageFailed(
        f"row {source}: the served prompt is not the trained one, from token {position} on\n"
        f"    trained: {tokenizer.decode(trained[around])!r}\n"
        f"    served:  {tokenizer.decode(served[around])!r}",
        _AGAIN,
    )
