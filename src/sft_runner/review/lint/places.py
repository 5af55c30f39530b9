"""Rules about where a file lies: what is never read, what hides something, and what belongs to nothing."""

from collections.abc import Iterator
from difflib import get_close_matches

from sft_runner.config.sources import recipes, shown
from sft_runner.review.lint.finding import NOTE, WARNING, Remark
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import CHOICE, LOCAL, LOCK, MAIN, RECIPE, RECORD, UNREAD, Subject
from sft_runner.review.lint.subjects import groups_read


@rule(WARNING, UNREAD)
def unread_file(subject: Subject) -> Iterator[Remark]:
    """A YAML file in `recipes/` or `conf/` that nothing reads: another suffix than .yaml, or a folder that is no
    group."""
    path = subject.path
    if path.suffix != ".yaml":
        yield Remark(1, "this file is never read", f"call it {path.stem}.yaml")
    elif subject.group:
        groups = sorted(groups_read() - {RECIPE, LOCAL})
        close = get_close_matches(subject.group, groups, n=1)
        hint = f"did you mean conf/{close[0]}?" if close else f"groups: {', '.join(groups)}"
        yield Remark(1, f"this file is never read: nothing chooses from conf/{subject.group}", hint)
    elif path.parent.name == "conf":
        yield Remark(1, "this file is never read", "put it into the folder of a group, such as conf/hardware")
    else:
        yield Remark(1, "this file is never read", "put it into recipes itself")


@rule(NOTE, RECIPE, CHOICE, MAIN)
def hides_shipped(subject: Subject) -> Iterator[Remark]:
    """A file of the user's own that is taken instead of a shipped one of the same name."""
    if subject.shadowed:
        yield Remark(
            1, f"this file is taken instead of the shipped {subject.shadowed.parent.name}/{subject.shadowed.name}"
        )


@rule(WARNING, LOCK, RECORD)
def orphan(subject: Subject) -> Iterator[Remark]:
    """A lock or a record whose recipe is not there."""
    if subject.name not in recipes():
        close = get_close_matches(subject.name, recipes(), n=1)
        hint = f"did you mean {close[0]}?" if close else "remove it, or bring the recipe back"
        yield Remark(
            1, f"this file belongs to {shown(subject.path.parent)}/{subject.name}.yaml, which is not there", hint
        )


@rule(WARNING, CHOICE)
def preset(subject: Subject) -> Iterator[Remark]:
    """A hardware preset that does not say its memory or its own name."""
    if subject.group != "hardware" or subject.mistakes or subject.file.values is None:
        return
    if "hardware.memory_gb" not in subject.settings and not subject.file.values.get("defaults"):
        yield Remark(1, "hardware.memory_gb is not set: the run would stay on the CPU", "set it, 0 for no card")
    path, name = subject.settings.get("hardware.name", ((), None))
    if name is not None and name != subject.name:
        yield Remark(
            subject.line_of(path), f"name={name} in {subject.path.name}", f"write name: {subject.name}", "name"
        )
