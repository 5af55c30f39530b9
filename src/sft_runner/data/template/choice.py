"""Which template is in effect: the model's own, a named text, or a file; with the user's values as its defaults."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Data
from sft_runner.config.schema_data import TEMPLATE_FILES, TEMPLATES
from sft_runner.data.template.rendering import compiled
from sft_runner.errors import UnknownName, UserError, suggestion

OWN, *NAMED = TEMPLATES
"""The model's own, and the texts in `named/`. These end each answer with the end-of-text token, or a model would never
learn to stop."""
GIVEN = ("messages", "tools", "documents", "add_generation_prompt")
"""What a template gets anyway."""


def template_text(data: Data, tokenizer: Any) -> str:
    """The Jinja text in effect. Raises `UserError` with key, file and line where there is none that works."""
    name = data.template
    if name == OWN:
        text, place = _own(tokenizer), "the model's chat template"
    elif name in NAMED:
        text, place = _named(name, tokenizer), name
    elif name.endswith(TEMPLATE_FILES):
        text, place = _file(name), name
    else:
        raise UnknownName("template", name, TEMPLATES, "data.template: ")
    read = _names_read(text, place)
    for key in data.chat_template_kwargs:
        if key not in read:
            raise UserError(
                f"data.chat_template_kwargs: {place} does not read '{key}'",
                suggestion(key, sorted(read)) or "it reads no values of its own",
            )
    return "".join(_default(key, value) for key, value in data.chat_template_kwargs.items()) + text


def _own(tokenizer: Any) -> str:
    text = tokenizer.chat_template
    if isinstance(text, dict):  # some models have another one for tools
        text = text.get("default")
    if not text:
        raise UserError(
            "model.name: the model's tokenizer has no chat template",
            f"take an instruct or chat version of the model, or set data.template to one of {', '.join(NAMED)}",
        )
    return str(text)


def _named(name: str, tokenizer: Any) -> str:
    """A text template; in front of it the token that the tokenizer puts in front of every text."""
    begins = tokenizer.bos_token_id is not None and tokenizer.bos_token_id in tokenizer("a")["input_ids"]
    text = (Path(__file__).parent / "named" / f"{name}.jinja").read_text(encoding="utf-8")
    return ("{{- bos_token }}" if begins else "") + text


def _file(name: str) -> str:
    path = Path(name).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = [str(path.with_name(f.name)) for f in path.parent.glob("*") if f.suffix in TEMPLATE_FILES]
        hint = suggestion(name, near) or f"name a .jinja file, or take {OWN} or one of {', '.join(NAMED)}"
        raise UserError(f"data.template: there is no file {name}", hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.template: {name} cannot be read: {error}", "name a text file in UTF-8") from None


def _names_read(text: str, place: str) -> set[str]:
    """The values that a template asks for; also proves that it is one."""
    from jinja2 import TemplateSyntaxError, meta

    try:
        environment = compiled(text).environment
        names = meta.find_undeclared_variables(environment.parse(text))
    except TemplateSyntaxError as error:
        raise UserError(
            f"data.template: {place}, line {error.lineno}: {error.message}", "mend the template, or take another"
        ) from None
    tokens = {name for name in names if name.endswith("_token")}
    return names - tokens - set(environment.globals) - set(GIVEN)


def _default(key: str, value: Any) -> str:
    """A line that sets a value where the caller gives none. The line's end is swallowed with the block."""
    return f"{{%- if {key} is not defined %}}{{%- set {key} = {_literal(value)} %}}{{%- endif %}}\n"


def _literal(value: Any) -> str:
    """A value in Jinja's words."""
    import json

    if isinstance(value, dict):
        return _listed("{", (f"{_literal(str(key))}: {_literal(item)}" for key, item in value.items()), "}")
    if isinstance(value, list | tuple):
        return _listed("[", map(_literal, value), "]")
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _listed(opening: str, items: Iterable[str], closing: str) -> str:
    return opening + ", ".join(items) + closing
