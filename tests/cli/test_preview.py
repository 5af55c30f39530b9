"""`sft-runner preview` shows real rows and their mask, fast, and writes nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command import sft


def write(folder: Path, *rows: dict[str, object]) -> str:
    """A data file outside the folder that the command runs in; as an override."""
    path = folder.with_suffix(".jsonl")
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return f"data.path={path}"


def test_quickstart(tmp_path: Path) -> None:
    ended = sft("preview", "recipe=quickstart", "--rows", "2", cwd=tmp_path)
    assert ended.code == 0, ended.said
    assert ended.out.count(" trained\n") == 2
    assert 'row        {"instruction": ' in ended.out
    assert "200 read = 200 usable + 0 dropped" in ended.out
    assert "<|im_start|>assistant↵" in ended.out
    assert "⟦" in ended.out
    assert not ended.err
    assert not list(tmp_path.iterdir())


def test_what_would_be_dropped_is_told_with_places(tmp_path: Path) -> None:
    data = write(
        tmp_path,
        {"question": "1 + 1?", "answer": "2"},
        {"question": "1 + 2?", "answer": ""},
        {"question": "1 + 3?", "answer": "{{number}}"},
        {"question": "1 + 4?", "answer": "5" * 50},
    )
    ended = sft("preview", "recipe=qa", "model=tiny", data, "data.max_length=60", cwd=tmp_path)
    assert ended.code == 0, ended.said
    said = " ".join(ended.out.split())
    name = f"{tmp_path.name}.jsonl"
    assert "4 read = 2 usable + 2 dropped" in said
    assert (
        f"dropped 1 empty_answer: an answer says nothing; fill the answer in, or leave the row out of the file "
        f"(such as {name}:2)" in said
    )
    assert f"(such as {name}:4)" in said
    assert "warning 1 placeholder" in said
    assert f"{name}:2 qa dropped" in said or f"{name}:2 dropped" in said


@pytest.mark.parametrize(
    ("word", "trained"),
    [
        ("data.train_on=assistant", "⟦yes<|im_end|>⟧↵ <|im_start|>user↵ again?<|im_end|>↵ <|im_start|>assistant↵ ⟦no<"),
        ("data.train_on=last", " yes<|im_end|>↵ <|im_start|>user↵ again?<|im_end|>↵ <|im_start|>assistant↵ ⟦no<"),
    ],
)
def test_overrides_change_what_is_shown(word: str, trained: str, tmp_path: Path) -> None:
    turns = [("user", "so?"), ("assistant", "yes"), ("user", "again?"), ("assistant", "no")]
    data = write(tmp_path, {"messages": [{"role": role, "content": text} for role, text in turns]})
    ended = sft("preview", "recipe=chat", "model=tiny", data, word, cwd=tmp_path)
    assert ended.code == 0, ended.said
    assert trained in " ".join(ended.out.split())


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["recipe=qa", "data.path=none.jsonl"], 2, "none.jsonl"),
        (["recipe=quickstart", "lora.rr=1"], 2, "lora.r"),
        (["recipe=quickstart", "--row", "many"], 2, "--row"),
        (["recipe=qa", "model=tiny"], 2, "data.path"),
        (["recipe=quickstart", "model.name=nobody/nothing"], 3, "model.name"),
    ],
)
def test_mistakes_are_explained(words: list[str], code: int, told: str, tmp_path: Path) -> None:
    ended = sft("preview", *words, cwd=tmp_path)
    assert ended.code == code, ended.said
    assert told in ended.err
    assert "Traceback" not in ended.said
    assert not list(tmp_path.iterdir())


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    data = write(tmp_path, {"question": "a", "answer": "b"}, {"question": "a", "answer": 3})
    ended = sft("preview", "recipe=qa", "model=tiny", data, cwd=tmp_path)
    assert ended.code == 2
    assert f"{tmp_path.name}.jsonl, line 2" in ended.err


def test_help_teaches(tmp_path: Path) -> None:
    ended = sft("preview", "--help", cwd=tmp_path)
    assert ended.code == 0
    assert "sft-runner preview recipe=quickstart" in ended.out
    assert "⟦" in ended.out


def test_torch_is_not_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from sft_runner.commands import preview; preview.main(['recipe=quickstart']);"
        "assert 'transformers' in sys.modules;"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('torch', 'datasets', 'trl', 'peft')]"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
