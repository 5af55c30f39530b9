"""How one asks about a section: several wordings in English and Chinese, chosen by hash so that none moves.

The answers are the documents' own words, so no wording asks for a summary or an opinion.
"""

import hashlib
import re
from dataclasses import dataclass

HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
KANA = re.compile(r"[\u3040-\u30ff]")
LETTER = re.compile(r"[A-Za-z]")
LEAST_HAN = 0.1
"""Share of Chinese characters among all letters from which on a document is Chinese: much of one may be code."""


@dataclass(frozen=True)
class Language:
    """The wordings of one language; `{}` is what is asked about."""

    learned: tuple[str, ...]
    """Those that training may see."""
    asked: tuple[str, ...]
    """Those that are kept for evaluation."""
    name: str
    """How what is asked about is set off."""
    part: str
    """Which part of a divided section is meant, behind its name."""
    page: str
    """A page of a PDF, as the last of its headings."""
    within: str
    """Which file is meant, behind the name, where another has a section of the same name."""


LANGUAGES = {
    "en": Language(
        learned=(
            "What does the documentation say about {}?",
            "Explain {}.",
            "Tell me about {}.",
            "What should I know about {}?",
            "What is written under {}?",
            "Describe {} as the documentation does.",
        ),
        asked=(
            "I am reading up on {}. What do the docs say?",
            "Which details does the documentation give on {}?",
        ),
        name='"{}"',
        part=" (part {} of {})",
        page="page {}",
        within=" (in {})",
    ),
    "zh": Language(
        learned=(
            "请介绍{}的内容。",
            "文档中关于{}是怎么说的？",
            "请说明{}。",
            "{}这一节讲了什么？",
            "关于{}，我需要了解什么？",
            "请根据文档讲解{}。",
        ),
        asked=(
            "我想了解{}，文档里是怎么写的？",
            "文档对{}给出了哪些具体内容？",
        ),
        name="“{}”",
        part="（第 {} 部分，共 {} 部分）",
        page="第 {} 页",
        within="（见 {}）",
    ),
}


def language_of(text: str) -> str:
    """`zh` for a text with enough Chinese characters and hardly any Japanese ones, else `en`."""
    han = len(HAN.findall(text))
    letters = han + len(LETTER.findall(text))
    chinese = han >= LEAST_HAN * max(letters, 1) and han > 10 * len(KANA.findall(text))
    return "zh" if chinese else "en"


@dataclass(frozen=True)
class Choice:
    """What is drawn for one part of one section; the same in every run and whatever else the folder holds."""

    digest: bytes
    """24 bytes or more, of which each draw has eight of its own."""

    @classmethod
    def of(cls, seed: int, file: str, section: str, part: int) -> "Choice":
        """The draw for a place."""
        return cls(hashlib.sha256(f"{seed}\0{file}\0{section}\0{part}".encode(errors="replace")).digest())

    def learned(self, language: Language, wordings: int) -> list[str]:
        """So many different wordings to learn."""
        first, known = self._number(0), language.learned
        return [known[(first + step) % len(known)] for step in range(wordings)]

    def asked(self, language: Language, share: float) -> str | None:
        """A wording that is only asked, for a share of all places."""
        wanted = self._number(1) < share * 2**64
        return language.asked[self._number(2) % len(language.asked)] if wanted else None

    def _number(self, index: int) -> int:
        """64 bits."""
        return int.from_bytes(self.digest[8 * index : 8 * index + 8])
