"""A folder of documents as questions and answers, made without a model.

Each section of a document is an answer in the document's own words; its headings are what is asked about.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sft_runner.config.schema import Data
from sft_runner.data.documents import html, markdown, pdf, plain
from sft_runner.data.documents.questions import LANGUAGES, Choice, Language, language_of
from sft_runner.data.documents.section import Document, divided
from sft_runner.data.readers.faults import Faults
from sft_runner.data.readers.file import refuse_pointer
from sft_runner.data.row import Row, error_at
from sft_runner.data.sources.naming import name_below, shown
from sft_runner.errors import DataError

TEXTS = {
    ".md": markdown.read,
    ".markdown": markdown.read,
    ".html": html.read,
    ".htm": html.read,
    ".rst": plain.read,
    ".txt": plain.read,
}
"""Suffix -> how such a text is read."""
SUFFIXES = (*TEXTS, ".pdf")
ASKED_AGAIN = 0.1
"""Share of parts that are asked once more in other words, where `data.held_out` is a number of rows."""
QUICK_PAGES = 10
"""How far a look at the first rows goes into a PDF."""


def rows(
    files: Sequence[Path],
    root: Path,
    data: Data,
    faults: Faults,
    most_bytes: int | None = None,
    called: str = "",
) -> Iterator[Row]:
    """A row for each wording and part of each section, in the order of files and lines; a file is a group.

    `called` is what the folder `root` is called, if not by its own name. `faults.counts` is told of `files` and
    `sections`, and of what becomes of these: `sections_too_short` (most of them only hold other sections),
    `sections_repeated` (the same text stood in an earlier one), `sections_contradicting` (two of one name in one file:
    the later one is left out), `sections_divided` into `parts` more; of `questions_reworded`, rows that are only asked;
    of `files_unreadable` where `data.bad_rows=drop`. So the rows are

        (sections - too_short - repeated - contradicting + parts) * data.documents.wordings + questions_reworded

    The texts of all files are held in memory, because a name must be unique among them. With `most_bytes` the files
    behind the first so many bytes are left out. Raises `DataError` for a file that cannot be read.
    """
    wordings = data.documents.wordings
    share = data.held_out if data.held_out < 1 else ASKED_AGAIN
    most = min(len(language.learned) for language in LANGUAGES.values())
    if wordings > most:
        raise DataError(f"data.documents.wordings: {wordings} is more than there are", f"at most {most}")
    counts = faults.counts
    answers = list(_answers(files, root, data, faults, most_bytes, called or shown(root.name)))
    shared = Counter(answer.name.casefold() for answer in answers)
    asked: set[str] = set()
    for answer in answers:
        subject = answer.language.name.format(answer.name)
        if shared[answer.name.casefold()] > 1:
            subject += answer.language.within.format(answer.file)
        if subject.casefold() in asked:
            counts["sections_contradicting"] += 1
            continue
        asked.add(subject.casefold())
        if len(answer.parts) > 1:
            counts["sections_divided"] += 1
            counts["parts"] += len(answer.parts) - 1
        for number, text in enumerate(answer.parts, 1):
            part = answer.language.part.format(number, len(answer.parts)) if len(answer.parts) > 1 else ""
            choice = Choice.of(data.seed, answer.file, answer.name, number)
            for wording in choice.learned(answer.language, wordings):
                yield answer.row(wording.format(subject + part), text)
            again = choice.asked(answer.language, share)
            if again:
                counts["questions_reworded"] += 1
                yield answer.row(again.format(subject + part), text, only_asked=True)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A section that is worth asking about."""

    file: str
    position: int
    unit: str
    language: Language
    name: str
    parts: Sequence[str]

    def row(self, question: str, text: str, only_asked: bool = False) -> Row:
        values = {"prompt": question, "completion": text}
        return Row(values, self.file, self.position, self.unit, group=self.file, only_asked=only_asked)


def _answers(
    files: Sequence[Path], root: Path, data: Data, faults: Faults, most_bytes: int | None, called: str
) -> Iterator[_Answer]:
    """The sections that are long enough and were not there before."""
    limits, counts, seen = data.documents, faults.counts, set[bytes]()
    done = 0
    for path in files:
        if most_bytes is not None and done > most_bytes:
            return
        name = name_below(root, path)
        done += path.stat().st_size
        counts["files"] += 1
        refuse_pointer(path, name)
        try:
            document = _document(path, name, quick=most_bytes is not None)
        except DataError as error:
            faults.meet("files_unreadable", name, error)
            continue
        title = document.title or _title(PurePosixPath(name), called)
        everything = "\n".join(section.text for section in document.sections)
        language = LANGUAGES[language_of(everything) if limits.language == "auto" else limits.language]
        for section in document.sections:
            counts["sections"] += 1
            text = section.text
            if len(text) < limits.least_chars:
                counts["sections_too_short"] += 1
                continue
            digest = hashlib.sha256(" ".join(text.split()).encode(errors="replace")).digest()
            if digest in seen:
                counts["sections_repeated"] += 1
                continue
            seen.add(digest)
            headings = list(section.headings)
            if headings[:1] != [title]:
                headings.insert(0, title)
            if document.unit == "page":
                headings.append(language.page.format(section.position))
            parts = divided(section, limits.most_chars, limits.least_chars)
            yield _Answer(name, section.position, document.unit, language, " > ".join(headings), parts)


def _document(path: Path, name: str, quick: bool) -> Document:
    """The file as a document. Raises `DataError` that names the line, `MachineError` where a library is missing."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".pdf":
            return pdf.read(path, QUICK_PAGES if quick else None)
        text = path.read_bytes().decode("utf-8-sig")
        return TEXTS[suffix](text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem, hint = "not UTF-8", "save the file as UTF-8"
    except (ValueError, RecursionError, OSError) as error:
        line, problem, hint = 1, f"not readable: {error}", "mend or remove the file"
    raise error_at(name, "line", line, problem, f"{hint}, or pass over it: data.bad_rows=drop")


def _title(name: PurePosixPath, called: str) -> str:
    """A name for a document that does not say its own: the file's, or the folder's where that says nothing."""
    stem = name.stem
    if stem.lower() in ("index", "readme"):
        stem = name.parent.name or called or stem
    return " ".join(stem.replace("_", " ").replace("-", " ").split()) or stem
