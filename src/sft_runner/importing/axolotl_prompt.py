"""axolotl's prompts of the user's own: texts in the words of `str.format`, which become Jinja over columns."""

import json
import re
from string import Formatter

from sft_runner.importing.draft import CARRIED, CHANGED, NO_EFFECT, NOT_CARRIED, Draft, unsafe
from sft_runner.importing.jinja import column
from sft_runner.importing.rows import NOTHING

FIELDS = ("field_instruction", "field_input", "field_output", "field_system")
TEXTS = ("format", "no_input_format", "system_prompt", "system_format")


def own_prompt(draft: Draft, at: str) -> tuple[str, dict[str, str]]:
    """Our format, and its columns. `at`: how the keys of the prompt begin, such as `datasets[0].type.`."""
    said = {name: draft.value(at + name) for name in (*FIELDS, *TEXTS)}
    try:
        if unsafe([value for value in said.values() if value is not None]):
            raise ValueError("holds ${...}, which would be read as a reference here")
        if any(not isinstance(value, str | None) for value in said.values()):
            raise ValueError("its parts are no texts")
        return _carried(draft, at, {name: value for name, value in said.items() if value})
    except ValueError as error:
        for name in said:
            if draft.has(at + name):
                draft.told(NOT_CARRIED, at + name, f"{error}; set data.format and data.columns")
        draft.to_do(f"{at.rstrip('.')} is a prompt of your own that was not carried over: set data.columns")
        return "auto", {}


def _carried(draft: Draft, at: str, said: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Every part in its list. Raises `ValueError` for a text that is no format."""
    names = {part: said.get(f"field_{part}", part) for part in ("instruction", "input", "output")}
    columns = _system(said)
    if "format" in said:
        prompt = _prompt(said["format"], said.get("no_input_format"), names)
        columns = {"prompt": prompt, "completion": names["output"], **columns}
        used = {"output": "completion"}
        used |= {part: "prompt" for part in names if f"{{{part}}}" in said["format"] + said.get("no_input_format", "")}
    else:
        columns = {part: name for part, name in names.items() if name != part} | columns
        used = {part: part for part in names}
    for part in names:
        if draft.has(f"{at}field_{part}"):
            ours = used.get(part, "")
            why = "" if ours in columns else "called so here too" if ours else "the text does not use it"
            draft.told(NO_EFFECT if why else CARRIED, f"{at}field_{part}", why, "" if why else f"columns.{ours}")
    note = "its text is the user's turn, inside the model's chat template; take out marks such as [INST]"
    for key in ("format", "no_input_format"):
        if draft.has(at + key):
            lost = "prompt" not in columns
            why = "only beside a format" if lost else note
            draft.told(NOT_CARRIED if lost else CHANGED, at + key, why, "" if lost else "columns.prompt")
    for key in ("system_prompt", "field_system"):
        if draft.has(at + key):
            draft.told(CHANGED, at + key, "a system turn, as the model's chat template writes it", "columns.system")
    if draft.has(at + "system_format"):
        same = said.get("system_format") == "{system}"
        draft.told(NO_EFFECT if same else NOT_CARRIED, at + "system_format", "the chat template writes the system turn")
    return "prompt_completion" if "prompt" in columns else "alpaca", columns


def _system(said: dict[str, str]) -> dict[str, str]:
    """The system turn: the column of a row, or the text for rows without one."""
    text, name = said.get("system_prompt", ""), said.get("field_system", "")
    if name:
        return {"system": f"{{{{ {column(name)} | default({json.dumps(text, ensure_ascii=False)}, true) }}}}"}
    return {"system": _jinja(_escaped(text))} if text else {}


def _prompt(text: str, without_input: str | None, names: dict[str, str]) -> str:
    """The user's turn as Jinja, another one where a row has no input and the file says so."""
    if text.strip() == "{instruction}" and without_input is None:
        return names["instruction"]
    written = _written(text, names)
    if without_input is not None:
        has = f"{column(names['input'])} | default('', true)"
        written = f"{{% if {has} %}}{written}{{% else %}}{_written(without_input, names)}{{% endif %}}"
    return _jinja(written)


def _written(text: str, names: dict[str, str]) -> str:
    """A text of `str.format` as Jinja. Raises `ValueError` for another field than the two of a question."""
    found = ""
    for literal, field, spec, conversion in Formatter().parse(text):
        found += _escaped(literal)
        if field is None:
            continue
        if field not in ("instruction", "input") or spec or conversion:
            raise ValueError(f"{{{field}}} is no field of a prompt; a brace is written twice")
        found += f"{{{{ {column(names[field])} | default('', true) }}}}"
    return found


def _escaped(literal: str) -> str:
    """Text in which Jinja sees nothing, also before what comes behind it."""
    return re.sub(r"\{(?=[{%#]|\Z)", "{{ '{' }}", literal)


def _jinja(written: str) -> str:
    """A text that `data.columns` takes as Jinja, not as the name of a column."""
    return written if "{{" in written or "{%" in written else NOTHING + written
