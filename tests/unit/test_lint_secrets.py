"""Secrets are found by their form and by their name, are never repeated, and hashes are none."""

from pathlib import Path

import pytest

from linted import written
from sft_runner.review.lint import screen
from sft_runner.review.lint.linting import looked_at
from sft_runner.review.lint.secret import secrets
from sft_runner.review.lint.subjects import subjects

LETTERS = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6kL9n"
"""Forty characters as a token has them."""
SECRETS = [
    f"# export HF_TOKEN=hf_{LETTERS[:34]}",
    f"token: hf_{LETTERS[:34]}",
    f"x: sk-proj-{LETTERS}",
    f"x: sk-ant-api03-{LETTERS}",
    f"x: ghp_{LETTERS[:36]}",
    f"x: github_pat_{LETTERS[:22]}",
    f"x: glpat-{LETTERS[:20]}",
    "x: AKIA1234567890ABCDEF",
    f"x: AIza{LETTERS[:35]}",
    f"x: xoxb-123456789012-{LETTERS[:12]}",
    f"x: wandb_v1_{LETTERS}",
    "# -----BEGIN OPENSSH PRIVATE KEY-----",
    "uri: https://me:hunter2x@host/x",
    "path: git+https://me:secret99@host/x@" + "a" * 40,
    f"WANDB_API_KEY: {'0123456789abcdef' * 2}01234567",
    f"api_key: '{LETTERS[:24]}'",
    f'password: "{LETTERS[:9]}"',
    f"my_secret = {LETTERS[:20]}",
    "# eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    f"# Authorization: Bearer {LETTERS[:30]}",
    f"# sk_{'live'}_{LETTERS[:24]}",
    "# pypi-AgEIcHlwaS5vcmcCJGFiY2RlZmdoLTEyMzQ",
    f"path: https://host/x.jsonl?a=1&sig={LETTERS[:30]}&x=1",
    "# password: CorrectHorse!Battery",
]
NONE = [
    f"sha256: {'0123456789abcdef' * 4}",
    f"tokenizer: {'0123456789abcdef' * 4}",
    f"revision: {'0123456789abcdef' * 2}01234567",
    f"| `0123456789ab` | qwen@{'0123456789abcdef' * 2}01234567 |",
    f"path: hf://datasets/some/rows@{'a1' * 20}/data/*.parquet",
    f"path: git+https://host/some/rows@{'a1' * 20}#subdirectory=x",
    "path: git+ssh://git@host/some/rows@main",
    "max_new_tokens: 1024",
    'eos_token: "<|im_end|>"',
    "uri: https://${oc.env:USER}:${oc.env:PASSWORD}@host/x",
    "api_key: ${oc.env:WANDB_API_KEY}",
    "# the key is read from WANDB_API_KEY, never from here",
    "# token: your-own-token-goes-here",
    "# password: from the environment",
    "token: ****************",
    "secret: xxxxxxxxxxxxxxxxxxxxxxxx",
    "lr_scheduler_type: cosine_with_restarts",
    "name: embedded:tiny",
    "# data from sk-slovak-wikipedia-articles-2024",
    "# as in sk-learn-contrib-imbalanced",
    "# tokens: 12345678.9M-of-wikipedia-20231101",
    "# auth=see-RFC7617-section-2",
]


@pytest.mark.parametrize("line", SECRETS)
def test_a_secret_is_found(line: str) -> None:
    assert len(list(secrets(["a: 1", line]))) == 1


@pytest.mark.parametrize("line", NONE)
def test_what_looks_like_one_is_none(line: str) -> None:
    assert not list(secrets([line]))


def test_a_secret_is_never_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rule's message tells of the same value."""
    monkeypatch.chdir(tmp_path)
    token = f"hf_{LETTERS[:34]}"
    written(tmp_path, {"recipes/a.yaml": f"train:\n  learning_rate: {token}\n"})
    report = looked_at([one for one in subjects() if one.own])
    assert {one.rule for one in report.findings} == {"secret", "wrong-value"}
    told = "\n".join([*screen.text(report), *screen.github(report), screen.as_json(report)])
    assert token not in told
    assert "***" in told


def test_a_short_secret_mangles_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {"recipes/a.yaml": "tracking: {mlflow: {uri: 'http://u:pass@host'}}\nname: 'http://u:pass@h'\n"})
    told = "\n".join(screen.text(looked_at([one for one in subjects() if one.own])))
    assert "a name or a password" in told
    assert "a password in an address" in told
    assert ":pass@" not in told


def test_a_secret_of_a_parent_is_not_repeated_in_its_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    token = f"hf_{LETTERS[:34]}"
    files = {"recipes/a.yaml": f"train: {{learning_rate: {token}}}\n", "recipes/b.yaml": "defaults:\n  - a\n"}
    written(tmp_path, files)
    (child,) = (one for one in subjects() if one.path.name == "b.yaml")
    told = "\n".join(screen.text(looked_at([child])))
    assert "train.learning_rate=***" in told
    assert token not in told
