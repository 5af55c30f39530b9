"""`{"task": ..., "trajectory": [{"thought", "action", "input"}, {"observation"}, ...]}`: what an agent did.

A step becomes an assistant turn with the thought as its reasoning (said aloud by a chat template that has no place for
reasoning) and the action as a tool call; an observation becomes the tool's result, which is never trained. The action
`finish` is the final answer; a last thought without an action is one too.
Tools are only those of the column `tools`: a list made from the calls would tell the model which ones are coming.
"""

from typing import Any

from sft_runner.data.formats.conversation import Conversation
from sft_runner.data.formats.values import kind, listed, text, to_json
from sft_runner.data.row import Example, Row

TASKS = ("task", "query", "instruction")
STEPS = ("trajectory", "steps")
COLUMNS = tuple((task, steps) for task in TASKS for steps in STEPS)
OPTIONAL = ("system", "tools", "functions")
FINISH = ("finish", "final_answer")
STEP = '{"thought": ..., "action": ..., "input": {...}, "observation": ...}'


def example(row: Row, template: str) -> Example:
    """Task, steps and final answer as one conversation."""
    task, column = next(names for names in COLUMNS if all(row.values.get(name) is not None for name in names))
    conversation = Conversation(row)
    conversation.add(task, {"role": "user", "content": text(row, task, row.values[task])})
    completion = len(conversation.messages)
    steps = listed(row, column, row.values[column], "steps", STEP)
    for i, step in enumerate(steps):
        place = f"{column}[{i}]"
        if _step(conversation, place, step) and i + 1 < len(steps):
            raise row.error(f"{place} finishes, but more steps follow", "finish belongs into the last step")
    return conversation.example("trajectory", completion)


def _step(conversation: Conversation, place: str, step: Any) -> bool:
    """Add the turns of a step; whether it finishes."""
    row = conversation.row
    if not isinstance(step, dict):
        raise row.error(f"{place} is {kind(step)}, not a step", f"write {STEP}")
    thought, action = (text(row, f"{place}.{key}", step.get(key) or "") for key in ("thought", "action"))
    given, seen = step.get("input", step.get("action_input")), step.get("observation")
    if not thought and not action and seen is None:
        raise row.error(f"{place} has no thought, action or observation", f"write {STEP}")
    finishes = action.lower() in FINISH
    reasoning = {"reasoning_content": thought} if thought else {}
    if finishes:
        answer = _answer(row, f"{place}.input", given)
        conversation.add(place, {"role": "assistant", "content": answer, **reasoning})
    elif action:
        calls = conversation.calls.read(place, {"name": action, "arguments": _arguments(given)})
        conversation.add(place, {"role": "assistant", "content": "", **reasoning, "tool_calls": calls})
    elif thought:
        conversation.add(place, {"role": "assistant", "content": thought})
    if seen is not None and not (finishes and not seen):
        content = seen if isinstance(seen, str) else to_json(row, place, seen)
        result = conversation.calls.answered(place, None, None)
        conversation.add(place, {"role": "tool", "content": text(row, place, content), **result})
    return finishes


def _answer(row: Row, place: str, given: Any) -> str:
    if isinstance(given, dict):
        return text(row, f"{place}.answer", given.get("answer"))
    return text(row, place, given)


def _arguments(given: Any) -> Any:
    """A text that is no object is the one argument `input`, as agents that write `Action Input: ...` mean it."""
    if isinstance(given, str) and not given.lstrip().startswith("{"):
        return {"input": given}
    return given
