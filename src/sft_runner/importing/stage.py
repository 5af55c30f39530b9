"""Another way of training than supervised fine-tuning, which is what is done here."""

from sft_runner.importing.draft import Draft

CHOSEN = ("dpo", "ipo", "orpo", "simpo", "cpo", "rm")
"""Those that learn from a chosen answer and a rejected one."""
NAMES = {"rm": "a reward model", "simpo": "SimPO"}
"""How they are written, where not in capitals."""


def elsewhere(draft: Draft, name: str) -> None:
    """Say that rows are trained otherwise here than by `name`: to do, and in the recipe itself."""
    what = "the chosen answers by SFT" if name in CHOSEN else "by SFT"
    meant = NAMES.get(name, name if " " in name else name.upper())
    said = f"this trains {what}; the learning rate, schedule and epochs were meant for {meant}"
    draft.to_do(said)
    draft.remarks.append(said)
