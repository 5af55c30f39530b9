"""The part of the schema that is about data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sft_runner.config.setting import setting

FORMATS = (
    "alpaca",
    "qa",
    "conversations",
    "messages",
    "prompt_completion",
    "text",
    "trajectory",
    "preference",
    "docs",
    "python",
)
"""The values of `data.format` besides `auto`."""
TEMPLATES = ("model", "sage_alpaca", "sage_conversation", "sage_qa")
"""The values of `data.template` besides files: the model's own, and texts that are shipped."""
TEMPLATE_FILES = (".jinja", ".j2")
"""Endings of the files that it takes."""


def without_paths(sources: dict[str, Any]) -> dict[str, Any]:
    """What of `data.sources` counts: the files count by their bytes, not by their place."""
    return {
        name: {key: value for key, value in source.items() if key != "path"} if isinstance(source, dict) else source
        for name, source in sources.items()
    }


@dataclass
class Documents:
    """How documents become questions and answers (`data.format=docs`)."""

    least_chars: int = setting(50, neutral=50, at_least=1)
    """Sections with fewer characters are left out."""
    most_chars: int = setting(6000, neutral=6000, at_least=100)
    """Longer sections are divided between paragraphs, lines or sentences."""
    wordings: int = setting(1, neutral=1, at_least=1)
    """Differently worded questions learned for each section."""
    language: str = setting("auto", neutral="auto", choices=("auto", "en", "zh"))
    """Language of the questions; `auto` is the document's own."""


@dataclass
class Data:
    """What to learn from."""

    told_as: ClassVar[str] = "data.sources"
    """The key under which the user wrote `sources`, for messages."""
    path: str | None = setting(None, counts=False)
    """A file or a folder (.jsonl .ndjson .json .csv .parquet, also .gz; documents; Python code),
    `hf://datasets/OWNER/NAME@COMMIT`, `git+https://...@COMMIT#subdirectory=DIR`, or `embedded:NAME` (dates, or a
    shipped recipe's name: rows to try it with). Its bytes count."""
    sources: dict[str, Any] = setting({}, neutral={}, counted=without_paths)
    """Several instead of one: `{NAME: {path: ..., weight: 1, cap: 1000, limit: ..., format: ..., held_out: ...}}`."""
    format: str = setting("auto", choices=("auto", *FORMATS))
    """How a row becomes messages; `auto` looks at the rows' columns."""
    columns: dict[str, Any] = setting({}, neutral={})
    """The format's column -> the file's, or a Jinja text over them: `{prompt: "{{ title }}?", completion: body}`."""
    mixed: bool = setting(False, neutral=False)
    """Rows of several formats stand in one file; each is read by its own columns."""
    limit: int | None = setting(None, neutral=None, at_least=1)
    """Use only the first rows (of each source)."""
    template: str = setting("model", neutral="model", counted=lambda name: Path(name).suffix or name)
    """How messages become text: by the `model`'s own chat template, by `sage_alpaca`, `sage_qa` or `sage_conversation`,
    or by a .jinja file."""
    chat_template_kwargs: dict[str, Any] = setting({}, neutral={})
    """Values for the chat template, such as `{enable_thinking: false}`; the served model keeps them."""
    reasoning: str = setting("last", neutral="last", choices=("keep", "last", "drop"))
    """Reasoning in answers: `last` learns what the template leaves of it (with most models that of the last answer),
    `keep` makes a row for each answer so that none is lost, `drop` removes it."""
    train_on: str = setting("assistant", neutral="assistant", choices=("assistant", "last", "completion", "all"))
    """Which tokens carry loss: all `assistant` turns, the `last` one, the row's `completion`, or `all` tokens."""
    max_length: int = setting(2048, at_least=8)
    """Longest row in tokens, capped by `hardware.max_length`."""
    overlong: str = setting("drop", choices=("drop", "truncate", "split", "error"))
    """What happens to a longer row: `drop` counts it, `truncate` cuts it (a conversation behind an answer), `split`
    makes several of it, `error` stops."""
    bad_rows: str = setting("error", neutral="error", choices=("error", "drop"))
    """What happens to a row that cannot be read: `error` stops and names the line, `drop` counts it."""
    suspect: str = setting("warn", neutral="warn", choices=("warn", "drop", "error"))
    """What happens to damaged text, unfilled placeholders and answers that repeat their question."""
    held_out: float = setting(0.1, at_least=0)
    """Rows kept away from training for evaluation: a share below 1, a number of rows from 1 on."""
    seed: int = 42
    """Seed of all choices between rows."""
    documents: Documents = field(default_factory=Documents)
    """How documents become rows."""
