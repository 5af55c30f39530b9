"""Prove that what is served is what was trained: a real server, a real question, and the token ids of training.

A served prompt that differs from the trained one in a single token makes a good model look bad, and nothing else
would show it. The server is stopped again; `stage=serve` starts one that stays.
"""

from collections.abc import Mapping
from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.data.prepared import HELD_OUT, TRAIN
from sft_runner.errors import DataError
from sft_runner.stages.stage import Report, Result

CHECKED_ROWS = 100
"""Held-out rows whose prompts are compared; one is also sent."""


class Serve:
    """`check.json`: question, answer, what was expected, and how long it took; `server.log`."""

    name = "serve"
    version = 1
    reads: tuple[str, ...] = ("serve", "hardware.dtype")
    inputs: tuple[str, ...] = ("prepare", "merge")
    model = ""
    data = ""
    gpu = True
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Compare prompts, start the server on a free port, ask a held-out question, stop it."""
        from transformers import AutoTokenizer

        from sft_runner.disk import write_json
        from sft_runner.model.prompts import check_prompts
        from sft_runner.model.rows import first_rows
        from sft_runner.serving.address import choose
        from sft_runner.serving.server import server
        from sft_runner.stages import exam as exams

        prepared, model = inputs["prepare"], inputs["merge"] / "model"
        rows = first_rows(prepared / HELD_OUT, CHECKED_ROWS) or first_rows(prepared / TRAIN, CHECKED_ROWS)
        if rows is None:
            raise DataError("data.path: no row was prepared to ask the server with", "give more rows")
        report(step=0, steps=2, message=f"prompts of {len(rows)} rows")
        tokenizer = AutoTokenizer.from_pretrained(model)
        checked = check_prompts(tokenizer, rows)

        report(step=1, steps=2, message=f"starting {config.serve.engine}")
        exam = exams.choose(tokenizer, rows)
        place = choose(config.serve.host, 0)  # the port of `stage=serve` may well be in use by an earlier model
        with server(config, model, config.name, place, folder / "server.log") as running:
            answer = running.ask(exam.question, config.serve.max_tokens)
        exams.check_count(exam, answer.prompt_tokens)
        timing = {"seconds_to_ready": running.seconds_to_ready, "seconds_to_answer": answer.seconds}
        counts = {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "prompts_checked": checked,
        }
        check = {
            "source": exam.source,
            "question": exam.question.text or exam.question.messages,
            **({"tools": exam.question.tools} if exam.question.tools else {}),
            "answer": answer.text,
            "expected": exam.expected,
            "finish_reason": answer.finish_reason,
            **counts,
            **timing,
            "engine": running.engine.name,
            "engine_version": running.version,
        }
        write_json(folder / "check.json", check)
        report(step=2, steps=2, message="answered")
        return Result({**timing, **counts}, artifacts=["check.json"])
