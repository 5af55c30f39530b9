"""What verifying a run finds, and of which part of it."""

from dataclasses import dataclass, field

DAMAGE, CHANGED, UNCHECKED, NOTE = "damaged", "changed since", "not checked", "note"
"""Bytes are not those that were written; what the run was made from is another by now; nothing is known that it could
be held against; something to know, and nothing is wrong."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as expected, or could not be told."""

    kind: str
    """`damaged`, `changed since`, `not checked` or `note`."""
    place: str
    """The file, as the user would type it, or what else is meant, such as `data`."""
    what: str
    """What is the matter, in a few words."""
    expected: str = ""
    """What should be there."""
    found: str = ""
    """What is there."""
    remedy: str = ""
    """What to do."""

    def lines(self) -> list[str]:
        """For the terminal."""
        told = [f"{self.kind}: {self.place}: {self.what}"]
        if self.expected:
            told.append(f"  expected {self.expected}")
        if self.found:
            told.append(f"  found    {self.found}")
        return [*told, f"  {self.remedy}"] if self.remedy else told


@dataclass
class Part:
    """A stage, the run folder, or what the run was made from."""

    name: str
    """`prepare`, `run`, `data`, `base model` ..."""
    files: int = 0
    """Files whose bytes were hashed."""
    bytes: int = 0
    """Their bytes."""
    seconds: float = 0.0
    """How long that took."""
    findings: list[Finding] = field(default_factory=list)
    """What is the matter with it."""
    fingerprint: str = ""
    """Of a stage."""

    def add(self, kind: str, place: str, what: str, expected: str = "", found: str = "", remedy: str = "") -> None:
        """Note a finding."""
        self.findings.append(Finding(kind, place, what, expected, found, remedy))

    def of(self, kind: str) -> list[Finding]:
        """The findings of a kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def findings_at(self, place: str) -> list[Finding]:
        """The findings of a file."""
        return [finding for finding in self.findings if finding.place == place]

    def damaged(self, place: str) -> bool:
        """Whether a file was found damaged."""
        return any(finding.kind == DAMAGE for finding in self.findings_at(place))

    @property
    def state(self) -> str:
        """The worst of its findings in a word; `not there` where nothing was hashed."""
        for kind in (DAMAGE, CHANGED):
            if self.of(kind):
                return kind
        if self.findings and not self.files:
            return "not there"
        return UNCHECKED if self.of(UNCHECKED) else "whole"
