"""How a run ends: written down whatever happens, with its verdict, its report and its trackers."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sft_runner import report
from sft_runner.disk import explained
from sft_runner.errors import MachineError, SftError, StageFailed
from sft_runner.evaluation import gates
from sft_runner.masking import masked
from sft_runner.outcome import Outcome, headline
from sft_runner.planning import Plan
from sft_runner.runs import RunFolder
from sft_runner.store import Store
from sft_runner.tracking.tracker import Tracker


@contextmanager
def ended(plan: Plan, outcome: Outcome, folder: RunFolder, tracker: Tracker) -> Iterator[None]:
    """Write down how the run ended, whatever happens: `run.json` first, so that what is killed later is not lost."""
    try:
        try:
            yield
        except Exception as error:
            outcome.state, outcome.error = "failed", _explained(error, folder.path)
        except BaseException:
            outcome.state = "cancelled"
            raise
        finally:
            try:
                _close(plan, outcome, folder, tracker)
            finally:
                _seal(plan, outcome, folder)
    finally:
        folder.close()


def fit(outcome: Outcome, over: bool = True) -> bool | None:
    """Whether the model may be served: it passed its gates, and nothing failed that was asked for.

    None while nobody knows: before the end, and of a run that was stopped or that the machine let down.
    """
    if gates.failed(outcome.verdicts):
        return False
    if not over or "evaluate" not in outcome.manifests:
        return None
    if isinstance(outcome.error, StageFailed):
        return False
    return True if outcome.state == "completed" else None


def _close(plan: Plan, outcome: Outcome, folder: RunFolder, tracker: Tracker) -> None:
    outcome.metrics = headline(outcome.manifests)
    said = masked(outcome.error.show()) if outcome.error else None
    try:
        folder.end(outcome.state, outcome.metrics, fit_to_serve=fit(outcome), error=said)
    except (SftError, OSError) as error:  # a full disk, and the trackers can hear of it all the same
        outcome.state, outcome.error = "failed", outcome.error or _explained(error, folder.path)
    try:
        files = report.write(plan, outcome, folder)
        if files and outcome.state == "cancelled":  # who stopped it gets no outcome
            print(f"report: {files[0]}", flush=True)
        tracker.attach(files)
    finally:
        tracker.end(outcome.state, outcome.metrics)
    with suppress(SftError, OSError):
        folder.update(untold=[])


def _seal(plan: Plan, outcome: Outcome, folder: RunFolder) -> None:
    """Keep the hashes of what no manifest lists; a run without them is a run all the same."""
    store = Store(plan.output_dir)
    done = {step.stage: step.fingerprint for step in plan.steps if step.stage in outcome.manifests}
    try:
        folder.seal({name: (store.folder(name, mark), outcome.manifests[name]) for name, mark in done.items()})
    except (SftError, OSError, ValueError) as error:
        why = error.message if isinstance(error, SftError) else error
        print(f"warning: the run has no seal, and sft-runner verify cannot check all of it: {why}", file=sys.stderr)


def _explained(error: Exception, folder: Path) -> SftError:
    """An error in the user's words; of one that nobody expected its kind, and where its traceback is."""
    if isinstance(error, SftError):
        return error
    try:
        name = getattr(error, "filename", None)
        with explained(Path(name) if isinstance(name, str) else folder):
            raise error
    except MachineError as known:
        return known
    except Exception:
        log = folder / "error.log"
        with suppress(OSError):
            log.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
        told = SftError(f"{type(error).__name__}: {error}".removesuffix(": "), f"traceback: {log}")
        told.__cause__ = error
        return told
