"""`sft-runner lock`: what recipes are made of, written down beside them, and held against what is here."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from sft_runner.commands.words import parser
from sft_runner.config import sources
from sft_runner.errors import SftError, UnknownName, UserError
from sft_runner.review.annotation import annotation
from sft_runner.review.lock import checking, file, making, renewing
from sft_runner.review.lock.checking import LIBRARIES, Finding

EXAMPLES = """\
Without KEY=VALUE an entry that is there is made anew with the words that it was made with.

examples:
  sft-runner lock quickstart                         writes recipes/quickstart.lock for the preset of its header
  sft-runner lock qa hardware=cpu model=tiny data.path=embedded:qa
  sft-runner lock qa --hardware cpu --hardware rtx3060   two presets in one file
  sft-runner lock                                    every recipe in ./recipes that has a lock
  sft-runner lock --check                            exit code 2 where something is not as a lock says
  sft-runner lock --check qa --ignore libraries      for a machine that takes the newest releases
  python -m sft_runner recipe=quickstart hardware=cpu locked=true
"""


def main(arguments: list[str]) -> int:
    """Write recipes/NAME.lock beside the recipe: the commit and bytes of model, tokenizer, template and data, what the
    stages are made of, and the versions of the libraries, for each hardware preset. With locked=true a run refuses
    whatever is not as the lock says."""
    options = parser("lock", main, EXAMPLES)
    options.add_argument(
        "words", nargs="*", metavar="RECIPE | KEY=VALUE", help="recipes, and what is said besides them"
    )
    options.add_argument("--hardware", action="append", default=[], metavar="NAME", help="only these presets")
    options.add_argument("--fresh", action="store_true", help="forget the words that an entry was made with")
    options.add_argument("--check", action="store_true", help="write nothing, tell what drifted; exit code 2 for that")
    options.add_argument("--ignore", action="append", default=[], choices=[LIBRARIES], help="what --check passes over")
    options.add_argument(
        "--strict", action="store_true", help="--check counts rows, and fails for what is not here, or without any lock"
    )
    options.add_argument("--json", action="store_true", help="what --check says, for programs")
    options.add_argument("--github", action="store_true", help="what --check says, as annotations of a pull request")
    given = options.parse_intermixed_args(arguments)
    names, words, presets = _parted(given.words)
    presets += given.hardware
    for preset in presets:
        if preset not in sources.options("hardware"):
            raise UnknownName("hardware", preset, sources.options("hardware"))
    presets = [making.detected() if preset == "auto" else preset for preset in presets]
    known = sorted({*sources.recipes(), *checking.own()})
    for name in names:
        if name not in known:
            raise UnknownName("recipe", name, known)
    if given.check:
        if words:
            raise UserError(f"--check takes the words that a lock was made with, not {' '.join(words)}")
        return _check(names or checking.own(), presets, given)
    if (words or given.fresh) and not names:
        raise UserError(
            f"{' '.join(words) or '--fresh'} is for recipes that are named", "sft-runner lock NAME KEY=VALUE"
        )
    return _lock(names or [name for name in checking.own() if file.is_own(name)], presets, words, given.fresh)


def _parted(given: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The names of recipes, the words of a command, and presets."""
    names, words, presets = [], [], []
    for word in given:
        key, equals, value = word.partition("=")
        if not equals and key[:1] not in ("~", "+"):
            names.append(word)
        elif key == "recipe":
            names.append(value)
        elif key == "hardware":
            presets.append(value)
        elif key != "locked":
            words.append(word)
    return list(dict.fromkeys(names)), words, presets


def _lock(names: Sequence[str], presets: Sequence[str], words: Sequence[str], fresh: bool) -> int:
    if not names:
        raise UserError("no recipe in ./recipes has a lock", "name one: sft-runner lock NAME")
    code = 0
    for name in names:
        try:
            for renewed in renewing.renew(name, presets, words, fresh):
                print(renewed, flush=True)
                for warning in renewed.open:
                    print(f"warning: {renewed.shown}: {renewed.preset}: {warning}", file=sys.stderr)
        except SftError as error:
            if len(names) == 1:
                raise
            print(f"error: {name}: {error.show()}", file=sys.stderr)
            code = max(code, error.exit_code)
    return code


def _check(names: Sequence[str], presets: Sequence[str], given: argparse.Namespace) -> int:
    if not names:
        print("no recipe in ./recipes has a lock: nothing to check", file=sys.stderr)
    findings = checking.check(names, presets, given.ignore, given.strict)
    failed = [one for one in findings if given.strict or not one.unchecked]
    if given.json:
        print(json.dumps([_plain(one) for one in findings], indent=1, ensure_ascii=False))
    elif given.github:
        for one in findings:
            kind = "error" if one in failed else "notice"
            text = f"{one.preset}: {one.text}" if one.preset else one.text
            print(annotation(kind, one.file, one.line, f"sft-runner lock: {one.part}", text))
    elif names:
        for one in findings:
            print(f"{'' if one in failed else 'note: '}{one}")
        locks = "1 lock" if len(names) == 1 else f"{len(names)} locks"
        failing = len({one.recipe for one in failed})
        print(f"{locks}: {f'{failing} not in order' if failing else 'all in order'}")
    return 2 if failed or (given.strict and not names) else 0


def _plain(finding: Finding) -> dict[str, Any]:
    return {**vars(finding), "file": sources.shown(finding.file)}
