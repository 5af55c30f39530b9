"""`sft-runner show`: the resolved run as YAML, every line with its origin."""

import json
import shlex

from sft_runner.commands.words import parser
from sft_runner.config.layers import layers
from sft_runner.review.explain.screen import safe_word
from sft_runner.review.show.entries import entries
from sft_runner.review.show.text import plain, text


def main(arguments: list[str]) -> int:
    """Show what runs as YAML, every line with its origin as a comment: what somebody said, what was filled in, and what
    counts in a fingerprint."""
    options = parser("show", main, _HELP)
    options.add_argument("words", nargs="*", metavar="WORD", help="a command line: recipe=code hardware=rtx3060")
    options.add_argument(
        "--all", action="store_true", help="every key, also those that nobody said and that never count"
    )
    options.add_argument("--json", action="store_true", help="a list of keys with value, layer, file and line")
    asked = options.parse_intermixed_args(arguments)
    found = entries(layers(asked.words), asked.all)
    if asked.json:
        print(json.dumps(plain(found), indent=1, ensure_ascii=False))
    else:
        print(f"# sft-runner show {shlex.join(map(safe_word, asked.words))}".rstrip())
        print(text(found))
    return 0


_HELP = """\
With --all the text is a file of conf/: as conf/local/same.yaml, the words `model=tiny local@_global_=same` run the same
again, without a recipe. Without its part `hardware` it is a recipe. Secrets are masked. Exit code: 0; 2 for words that
are wrong.

  sft-runner show recipe=code hardware=rtx3060
  sft-runner show recipe=qa data.path=my.jsonl --all
  sft-runner show recipe=quickstart hardware=cpu --json | jq '.[] | select(.layer == "schema" | not) | .key'"""
