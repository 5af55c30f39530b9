"""Files that are no configuration of another program, or that would do harm: a clear line for each."""

from pathlib import Path

import pytest

from sft_runner.errors import UserError
from sft_runner.importing.programs import recognised
from sft_runner.importing.source import read

BAD = {
    "empty.yml": ("", "holds nothing"),
    "comment.yml": ("# nothing\n", "holds nothing"),
    "null.yml": ("null\n", "not a mapping"),
    "list.yml": ("- a\n- b\n", "holds a list"),
    "text.yml": ("just a text\n", "a single value"),
    "broken.yml": ("a: [1\nb: 2\n", "line 2"),
    "tabs.yml": ("a:\n\tb: 1\n", "line 2"),
    "tag.yml": ("base_model: !!python/object/apply:os.system ['echo owned']\n", "only plain YAML"),
    "two.yml": ("base_model: a\n---\nbase_model: b\n", "several documents"),
    "twice.yml": ("base_model: a\nsequence_len: 1\nbase_model: b\n", "line 3: 'base_model' is written twice"),
    "twice_in.yml": ("base_model: a\ndatasets:\n  - path: a\n    path: b\n", "'path' is written twice"),
    "itself.yml": ("base_model: &a [*a]\n", "holds itself"),
    "bomb.yml": (
        "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
        + "".join(
            f"{new}: &{new} [{', '.join(f'*{old}' for _ in range(9))}]\n"
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "aliases stand for more",
    ),
    "merges.yml": (
        "a: &a {x: 1, y: 2}\n"
        + "".join(
            f"{new}: &{new} {{<<: [{', '.join(f'*{old}' for _ in range(9))}]}}\n"
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "aliases stand for more",
    ),
    "deep.yml": ("a: " + "[" * 3000 + "]" * 3000 + "\n", ""),
    "deep.json": ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    "digits.yml": ("base_model: a\nsequence_len: " + "9" * 5000 + "\n", "not valid YAML"),
    "broken.json": ('{"model_name_or_path": }', "not valid JSON"),
    "twice.json": ('{"a": 1, "a": 2}', "written twice"),
    "other.yml": ("services: {web: {image: nginx}}\n", "no configuration of axolotl"),
    "both.yml": ("model_name_or_path: a/b\n", "may be of"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, told = BAD[name]
    Path(name).write_text(text)
    with pytest.raises(UserError) as caught:
        recognised(read(Path(name)))
    assert name in caught.value.message
    assert told in caught.value.message + caught.value.hint
    assert caught.value.hint


def test_bad_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.yml").write_bytes("base_model: caf\xe9\n".encode("latin-1"))
    Path("large.yml").write_text("# " + "x" * 1_100_000)
    for name, told in (
        ("latin.yml", "no UTF-8"),
        ("large.yml", "more than"),
        ("no.yml", "No such file"),
        (".", "folder"),
    ):
        with pytest.raises(UserError) as caught:
            read(Path(name))
        assert told in caught.value.message
