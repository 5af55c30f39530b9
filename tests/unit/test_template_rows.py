"""On real rows, ids are exactly those of `apply_chat_template`. The data lies beside the repository, if at all."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from families import FAMILIES, write
from sft_runner.config.schema import Data
from sft_runner.data import files, formats
from sft_runner.data.row import Dropped, Example
from sft_runner.data.sources import sources_of
from sft_runner.data.template import IGNORED, ChatTemplate

SHARED = Path(__file__).parents[3] / "shared/data"
FILES = ["alpaca_en_demo.json", "glaive_toolcall_en_demo.json", "gsm8k_test.jsonl", "gsm8k_train.jsonl"]


def examples(name: str) -> Iterator[Example]:
    """The rows of a file as conversations, without those that hold nothing to learn."""
    data = Data(path=str(SHARED / name))
    (source,) = sources_of(data)
    chosen = None
    for row in files.read(source, data, Counter()):
        chosen = chosen or formats.choose(source, row)
        example = chosen.example(row)
        if formats.reason_to_drop(example) is None:
            yield example


def prove(family: str, folder: Path, found: list[Example]) -> int:
    """How many rows are proven."""
    template = ChatTemplate(write(family, folder), Data())
    apply = template.tokenizer.apply_chat_template
    end = template.tokenizer.convert_tokens_to_ids(FAMILIES[family].eos)
    proven = 0
    for example, rows in zip(found, template.encode(found), strict=True):
        assert not isinstance(rows, Dropped)
        (encoded,) = rows
        messages, tools = example.messages, example.tools or None
        assert encoded.input_ids == apply(messages, tools=tools, return_dict=False)
        prompt = apply(messages[:-1], tools=tools, add_generation_prompt=True, return_dict=False)
        assert encoded.input_ids[: encoded.prompt_length] == prompt
        assert encoded.labels.count(end) == sum(message["role"] == "assistant" for message in messages)
        assert encoded.labels[encoded.prompt_length - 1] == IGNORED
        proven += 1
    return proven


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data beside the repository")
@pytest.mark.parametrize("family", ["qwen-2.5", "llama-3.1"])
@pytest.mark.parametrize("name", FILES)
def test_ids_are_those_of_apply_chat_template(tmp_path: Path, family: str, name: str) -> None:
    found = list(islice(examples(name), 300))
    assert prove(family, tmp_path, found) == len(found) > 250


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data beside the repository")
@pytest.mark.parametrize("family", ["qwen-2.5", "llama-3.1", "qwen-3", "mistral-v0.3"])
def test_the_same_on_every_row(tmp_path: Path, family: str) -> None:
    for name in FILES:
        found = list(examples(name))
        assert prove(family, tmp_path / name, found) == len(found)
