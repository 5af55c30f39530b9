"""A user's folder with files that are looked at."""

from collections.abc import Mapping
from pathlib import Path

from sft_runner.config.sources import forget
from sft_runner.review.lint.linting import looked_at
from sft_runner.review.lint.subjects import subjects

HEADER = """\
# goal:     answer
# hardware: any CPU
# result:   not measured yet
# command:  python -m sft_runner recipe={name} hardware=cpu data.path=my.jsonl
"""
"""Four lines, so that a recipe's own begin at 5."""


def written(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files; a recipe that does not begin with a comment gets a header."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        headed = path.parent.name == "recipes" and path.suffix == ".yaml" and not text.startswith("#")
        path.write_text((HEADER.format(name=path.stem) if headed else "") + text, encoding="utf-8")


def found(folder: Path) -> list[tuple[str, int, str]]:
    """File, line and rule of each finding in the user's own files; the folder must be the current one."""
    forget()
    report = looked_at([one for one in subjects() if one.own])
    return [(one.path.relative_to(folder).as_posix(), one.line, one.rule) for one in report.findings]
