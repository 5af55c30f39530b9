"""Why rows are dropped or doubtful, in words for the user: what it means, and what to do."""

from dataclasses import dataclass

from sft_runner.data.row import Dropped


@dataclass(frozen=True)
class Reason:
    """What a count in a report means."""

    meaning: str
    """In a few words."""
    remedy: str = ""
    """What the user can do; empty where all is well."""


DROPPED = {
    Dropped.MALFORMED: Reason("cannot be read, and data.bad_rows=drop", "mend the rows named here"),
    Dropped.EMPTY_ANSWER: Reason("an answer says nothing", "fill the answer in, or leave the row out of the file"),
    Dropped.EMPTY_PROMPT: Reason("nothing is asked", "fill the question in; use data=text for plain text"),
    Dropped.SUSPECT: Reason("damaged or doubtful text, and data.suspect=drop", "mend the rows named here"),
    Dropped.NOTHING_TRAINED: Reason("no token would carry loss", "see data.train_on, and `train: false` in the row"),
    Dropped.SPECIAL_TOKEN: Reason(
        "the text contains a token that marks turns for the model", "remove the token from the text"
    ),
    Dropped.JOINED: Reason(
        "the answer's first token would swallow the end of the prompt", "remove white space in front of the answer"
    ),
    Dropped.NO_FILL_TOKENS: Reason("the model has no tokens to fill in the middle", "take a base model made for code"),
    Dropped.REFUSED: Reason("the chat template does not take it", "data.bad_rows=error shows why, row by row"),
    Dropped.OVERLONG: Reason(
        "more tokens than data.max_length", "raise data.max_length, or data.overlong=split or truncate"
    ),
    Dropped.DUPLICATE: Reason("the same row stood there before"),
    Dropped.HELD_OUT_TWIN: Reason("its question is held out, so it must not be learned"),
    Dropped.CAPPED: Reason("beyond the cap, or outside the weight, of its source"),
}
"""For each key of `rows.dropped`."""

REMEDIES = {
    "placeholder": "fill them in, or leave these rows out with data.suspect=drop",
    "damaged_text": "read the file in its true encoding, or leave these rows out with data.suspect=drop",
    "echo": "mend the answers, or leave these rows out with data.suspect=drop",
    "repeated": "mend the answers, or leave these rows out with data.suspect=drop",
    "drifted_prompts": "set data.reasoning=keep, which makes a row for each answer, or data.train_on=last",
    "unused_source": "look at what was dropped and why, or leave the source out",
    "coarse_groups": "give more files or other prompts, or choose another data.held_out",
    "few_files": "give more files, so that unseen facts can be asked too",
    "ambiguous": "keep one answer for each prompt, or say in the prompt what tells them apart",
}
"""What to do, for each kind of warning that a user can act on."""

KINDS = {
    "": "rows of the same kind as those to learn from",
    "unseen": "facts that training never saw",
    "reworded": "facts that were taught, asked in other words",
}
"""For each key of `kinds`: which rows these held-out ones are."""


def dropped(reason: str) -> Reason:
    """What a key of `rows.dropped` means; reports may be older or newer than this program."""
    return DROPPED[Dropped(reason)] if reason in set(Dropped) else Reason("")
