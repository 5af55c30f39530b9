"""Rules about the files and addresses that a file names."""

import re
from collections.abc import Iterator
from pathlib import Path

from sft_runner.data.sources.address import address_of
from sft_runner.errors import SftError
from sft_runner.review.lint.finding import ERROR, NOTE, WARNING, Remark
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import CHOICE, LOCAL, MAIN, RECIPE, Subject

ROWS = re.compile(r"data\.path|data\.sources\.[^.]+\.path|evaluate\.sets\.[^.]+\.path")
"""Keys whose value is a place that rows come from."""
TEMPLATE = "data.template"
"""The key whose value may be a file."""
OTHERS = (
    "model.name",
    "evaluate.benchmarks_path",
    "output_dir",
    "serve.python",
    "train.continue_from",
    "tracking.tensorboard.dir",
)
"""Other keys whose value may be a path; the pipeline tells of a model or tasks that are not there."""


@rule(ERROR, RECIPE, CHOICE, MAIN)
def missing_path(subject: Subject) -> Iterator[Remark]:
    """Data or a template that a file names, and that are not there. What the command in the header names is an
    example."""
    for key, path, line in _paths(subject):
        if _absolute(path):
            continue
        if ROWS.fullmatch(key):
            try:
                address_of(path).place()
            except SftError as error:
                message = re.sub(r"^data\.path: ", "", error.message)
                yield Remark(line, f"{key}: {message}", error.hint, key.rpartition(".")[2])
        elif key == TEMPLATE and path.endswith((".jinja", ".j2")) and not Path(path).exists():
            hint = "a relative path starts at the folder in which the command runs"
            yield Remark(line, f"{key}: there is no file or folder {path}", hint, key.rpartition(".")[2])


@rule(WARNING, RECIPE, CHOICE, MAIN)
def absolute_path(subject: Subject) -> Iterator[Remark]:
    """A path that begins with `/` or `~` in a file that is checked in: it is another one on each machine."""
    for key, path, line in _paths(subject):
        if _absolute(path) and subject.group != LOCAL:
            hint = "write it relative to the project's folder, or put it into conf/local/default.yaml"
            yield Remark(line, f"{key}={path} is a path of one machine", hint, key.rpartition(".")[2])


@rule(NOTE, RECIPE, CHOICE)
def unpinned(subject: Subject) -> Iterator[Remark]:
    """`model.revision` names a branch or a tag, which may move, and no commit."""
    _, revision = subject.settings.get("model.revision", ((), None))
    if isinstance(revision, str) and "${" not in revision and not re.fullmatch(r"[0-9a-f]{40}", revision):
        line = subject.line_of(subject.settings["model.revision"][0])
        message = f"model.revision={revision} is no commit, so it may become another model"
        yield Remark(line, message, "write the 40 hexadecimal digits of the commit", "revision")


def _paths(subject: Subject) -> Iterator[tuple[str, str, int]]:
    """Keys that may name a path, with it and its line."""
    for key, (path, value) in subject.settings.items():
        if (
            isinstance(value, str)
            and value
            and "${" not in value
            and (ROWS.fullmatch(key) or key in (TEMPLATE, *OTHERS))
        ):
            yield key, value, subject.line_of(path)


def _absolute(path: str) -> bool:
    return path.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", path) is not None
