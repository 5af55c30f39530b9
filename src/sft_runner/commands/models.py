"""`sft-runner models`: what was trained and merged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_runner.commands.words import add_output_dir, parser
from sft_runner.evaluation import gates
from sft_runner.runs import runs, state_of


def main(arguments: list[str]) -> int:
    """List what has been trained and merged, the newest first."""
    options = parser("models", main)
    add_output_dir(options)
    folder = Path(options.parse_args(arguments).output_dir)
    found = 0
    for path, state in runs(folder):
        if not (path / "model").exists():
            continue
        found += 1
        numbers = ", ".join(
            f"{key} {value:.3g}" for key, value in state.get("metrics", {}).items() if key.startswith("tuned.")
        )
        print(f"{state['name']:<14}  {state['started'][:16].replace('T', ' ')}  {path / 'model'}  {numbers}")
        if fit := _fit(path, state):
            print(f"{'':<14}  {fit}")
    if not found:
        print(f"no model in {folder} yet; try: python -m sft_runner recipe=quickstart")
    return 0


def _fit(folder: Path, state: Mapping[str, Any]) -> str:
    """Whether a model may be served: what it missed, how its run failed, or that it passed; empty without gates."""
    verdicts = gates.read(state)
    if missed := gates.failed(verdicts):
        return f"not fit to serve: {', '.join(map(str, missed))}"
    ended = state_of(folder, str(state.get("state")))
    if ended != "completed":
        why = str(state.get("error") or "").partition("\n")[0]
        return f"{ended}: {why}" if why else ended
    return "fit to serve" if verdicts and state.get("fit_to_serve") else ""
