"""`data.columns`: a format's columns from a file that names them otherwise, or does not have them as such.

A value is the name of a column of the file, or a Jinja text over its columns. A column that the map reads is not read
again under its own name; all others stay. Jinja runs in a sandbox, and nothing in it depends on chance or time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from sft_runner.data.formats.values import kind
from sft_runner.data.row import Row
from sft_runner.errors import UserError, suggestion

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

WHOLE_ROW = "row"
"""In a Jinja text the row itself, for columns whose names are no words: `{{ row["my column"] }}`."""


@dataclass(frozen=True)
class ColumnMap:
    """The map of one source."""

    columns: tuple[tuple[str, str], ...]
    """The format's column, and the file's column or a Jinja text."""

    @classmethod
    def of(cls, written: Mapping[str, Any], key: str = "data.columns") -> "ColumnMap | None":
        """The map as the user wrote it below `key`; None where it is empty. Raises `UserError` for values that are no
        text."""
        for target, value in written.items():
            if not isinstance(value, str) or not value:
                raise UserError(
                    f"{key}.{target} is {kind(value) if value != '' else 'empty'}, not a column or a Jinja text",
                    f'write {{{target}: column}} or {{{target}: "{{{{ column }}}} ..."}}',
                )
            if _is_jinja(value):
                _compiled(f"{key}.{target}", value)
        return cls(tuple(written.items())) if written else None

    @property
    def targets(self) -> set[str]:
        """The format's columns that it fills."""
        return {target for target, _ in self.columns}

    def applied(self, row: Row) -> Row:
        """The row with the format's columns. Raises `DataError` that names the key for what the row does not have."""
        made: dict[str, Any] = {}
        read: set[str] = set()
        for target, value in self.columns:
            if _is_jinja(value):
                render, used = _compiled(f"data.columns.{target}", value)
                made[target] = self._rendered(row, target, render)
                read |= used
            elif value in row.values:
                made[target] = row.values[value]
                read.add(value)
            else:
                raise row.error(
                    f"data.columns.{target} names the column '{value}', the columns are {_listed(row)}",
                    f"{suggestion(value, list(row.values))}; where only some rows have it, write "
                    f"\"{{{{ {value} | default('') }}}}\"; a fixed text is \"{{{{ '{value}' }}}}\"",
                )
        return replace(row, values={**{k: v for k, v in row.values.items() if k not in read}, **made})

    def _rendered(self, row: Row, target: str, render: Callable[..., str]) -> str:
        try:
            return render({WHOLE_ROW: row.values, **row.values})
        except Exception as error:  # the text is the user's program: anything can go wrong in it
            raise row.error(f"data.columns.{target}: {error}", f"the columns are {_listed(row)}") from None


def _is_jinja(value: str) -> bool:
    return "{{" in value or "{%" in value


def _listed(row: Row) -> str:
    return ", ".join(row.values) or "none"


@cache
def _compiled(key: str, source: str) -> tuple[Callable[..., str], frozenset[str]]:
    """What renders a Jinja text, and the columns it reads. Raises `UserError` that names the key."""
    from jinja2 import TemplateSyntaxError, meta

    environment = _environment()
    try:
        used = meta.find_undeclared_variables(environment.parse(source))
        return environment.from_string(source).render, frozenset(used)
    except TemplateSyntaxError as error:
        raise UserError(
            f"{key}: not Jinja, line {error.lineno}: {error.message}",
            'write "{{ column }} ..."; see https://jinja.palletsprojects.com/templates',
        ) from None


@cache
def _environment() -> "ImmutableSandboxedEnvironment":
    """The sandbox: no attributes with underscores, nothing changed, nothing by chance, nothing missing passed over."""
    import json

    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, finalize=_written, keep_trailing_newline=True
    )
    environment.globals.pop("lipsum")
    environment.filters.pop("random")
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)  # Jinja's is for HTML
    return environment


def _written(value: Any) -> Any:
    """A value as it goes into the text; Python's spelling of nulls and lists must not be learned."""
    if value is None:
        raise ValueError("a value is null; say what stands there instead: {{ column or '' }}")
    if isinstance(value, bool | list | dict):
        raise ValueError(f"a value is {kind(value)}; write {{{{ column | tojson }}}} or {{{{ column | join(', ') }}}}")
    return value
