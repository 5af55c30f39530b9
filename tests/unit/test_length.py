"""Long conversations in parts: what was learned of the whole is learned of the parts, once, or counted."""

from pathlib import Path

import pytest

from families import write
from sft_runner.config.schema import Data
from sft_runner.data.length import Fitted, fitted
from sft_runner.data.row import Dropped, Example, Row
from sft_runner.data.template import IGNORED, ChatTemplate

EXCHANGES = 5


def conversation() -> Example:
    messages = []
    for number in range(EXCHANGES):
        messages.append({"role": "user", "content": f"QUESTION{number}"})
        thought = f"thinking of {number} for a while"
        messages.append({"role": "assistant", "content": f"ANSWER{number}", "reasoning_content": thought})
    return Example(Row({}, "a.jsonl", 1), "messages", messages, completion=len(messages) - 1)


def made(folder: Path, data: Data) -> tuple[list[str], list[Dropped]]:
    """The trained texts of the rows, and why the others are not used."""
    template = ChatTemplate(write("qwen-3", folder), data)
    (encoded,) = template.encode([conversation()])
    assert not isinstance(encoded, Dropped)
    parts = fitted(conversation(), encoded, data, template)
    rows = [part.encoded for part in parts if isinstance(part, Fitted)]
    assert all(len(row.input_ids) <= data.max_length for row in rows)
    trained = [template.tokenizer.decode([i for i in row.labels if i != IGNORED]) for row in rows]
    return trained, [part for part in parts if isinstance(part, Dropped)]


@pytest.mark.parametrize("max_length", [130, 200, 300])
@pytest.mark.parametrize("reasoning", ["last", "keep", "drop"])
def test_split_learns_every_answer_once(tmp_path: Path, reasoning: str, max_length: int) -> None:
    data = Data(reasoning=reasoning, overlong="split", max_length=max_length)
    trained, dropped = made(tmp_path, data)
    assert not dropped
    for number in range(EXCHANGES):
        assert sum(text.count(f"ANSWER{number}") for text in trained) == 1
    if reasoning == "keep":
        assert all("thinking of" in text for text in trained)


@pytest.mark.parametrize("reasoning", ["last", "drop"])
def test_truncate_keeps_the_first_exchanges(tmp_path: Path, reasoning: str) -> None:
    (text,), _ = made(tmp_path, Data(reasoning=reasoning, overlong="truncate", max_length=130))
    assert "ANSWER0" in text
    assert f"ANSWER{EXCHANGES - 1}" not in text
