"""Which weights to start from: a file of `conf/model` where one names them, else `model.name`."""

import re

from sft_runner.config import sources
from sft_runner.importing.draft import NO_EFFECT, NOT_CARRIED, Draft

OWN_CODE = "no code of a model runs unasked: model.trust_remote_code=OWNER/NAME@COMMIT, once you have read it"


def model(draft: Draft, key: str, revision: str) -> None:
    """The model, and the commit that is pinned."""
    name = str(draft.value(key, ""))
    pinned = str(draft.value(revision, ""))
    commit = pinned if re.fullmatch(r"[0-9a-f]{40}", pinned) else ""
    if not name:
        draft.to_do("name the model: model=NAME, or model.name=OWNER/NAME")
    elif (choice := _choice(name)) and not commit:
        draft.choices["model"] = choice
        draft.told("carried", key, "", f"model={choice}")
    else:
        draft.carried(key, "model.name", name)
    if draft.has(revision):
        if commit:
            draft.carried(revision, "model.revision", commit)
        elif pinned == "main":
            draft.told(NO_EFFECT, revision, "the newest commit of the local cache is taken, and recorded")
        else:
            draft.told(NOT_CARRIED, revision, "branches and tags move: set model.revision to a commit of 40 digits")
    if draft.has("trust_remote_code"):
        if draft.flag("trust_remote_code"):
            draft.told(NOT_CARRIED, "trust_remote_code", OWN_CODE)
        else:
            draft.told(NO_EFFECT, "trust_remote_code", "off, as here")


def _choice(name: str) -> str:
    """The file of `conf/model` that names these weights and no commit; empty without one."""
    for option in sources.options("model"):
        file = sources.choice("model", option)
        if file and file.values and file.values.get("name") == name and not file.values.get("revision"):
            return option
    return ""
