"""Hand the tuned model on: each form in a folder of its own, complete, checked, and tied to nothing on this machine.

Files are copied, not linked: who edits an export must not edit what is cached. A form is read back where that can
prove something: GGUF against the merged model, the Modelfile against the prompts of training.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import EXPORTS, Config
from sft_runner.stages.stage import Report, Result

if TYPE_CHECKING:
    from sft_runner.exporting.copying import Meter
    from sft_runner.exporting.gguf.weights import Weight
    from sft_runner.exporting.licence import Licence
    from sft_runner.exporting.record import Record

PROVING_ROWS = 8
"""Rows on which logits and token ids of a GGUF file are compared."""
PROMPTS = 100
"""Rows on whose prompts a Modelfile is compared."""


class Export:
    """A folder for each form in `export`, and `export.json`: what was written and proven."""

    name = "export"
    version = 1
    reads: tuple[str, ...] = ("export", "gguf", "adapter")
    inputs: tuple[str, ...] = ("prepare", "train", "merge", "evaluate")
    model = ""
    data = ""
    gpu = False
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Write the forms in their own order, whatever order they were asked for in."""
        from sft_runner.disk import write_json
        from sft_runner.exporting.copying import size

        work = _work(config, inputs, folder, report)
        found: dict[str, Any] = {}
        notes: list[str] = []
        forms = [form for form in EXPORTS if form in config.export]
        for form in forms:
            work.meter.begin(form)
            told = _FORMS[form](work)
            notes += told.pop("notes", [])
            found[form] = {"bytes": size(folder / form), **told}
        write_json(folder / "export.json", found)
        work.meter.begin("done")
        cards = [f"{form}/README.md" for form in forms if form in ("adapter", "safetensors")]
        modelfile = ["ollama/Modelfile"] if "ollama" in forms else []
        return Result(found, notes=notes, artifacts=["export.json", *cards, *modelfile])


@dataclass(frozen=True)
class _Work:
    """What all forms are made from."""

    config: Config
    inputs: Mapping[str, Path]
    folder: Path
    meter: "Meter"
    record: "Record"
    licence: "Licence"
    weights: "list[Weight]"
    """Of the GGUF file; empty where there is none."""

    @property
    def model(self) -> Path:
        """The merged model."""
        return self.inputs["merge"] / "model"

    @property
    def gguf(self) -> str:
        """The name of the GGUF file."""
        from sft_runner.exporting.gguf.file import kind_of

        return f"{self.config.name}-{kind_of(self.weights)}.gguf"


def _work(config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> _Work:
    """Read what is told of the run, and find out what cannot be written before anything is."""
    from sft_runner.exporting import licence, record
    from sft_runner.exporting.copying import Meter, size
    from sft_runner.exporting.gguf.file import planned
    from sft_runner.exporting.requirements import check
    from sft_runner.model.files import locate

    check(config)
    model = inputs["merge"] / "model"
    weights = planned(model, config.gguf.type) if "gguf" in config.export else []
    adapter = size(inputs["train"] / "adapter")
    amounts = {
        "adapter": adapter,
        "safetensors": size(model),
        "gguf": 2 * sum(weight.size for weight in weights),  # written, then read back
        "archive": size(model) + adapter,
    }
    meter = Meter(report, sum(amounts.get(form, 0) for form in config.export))
    told = record.read(config, inputs)
    return _Work(config, inputs, folder, meter, told, licence.of(model, locate(config.model).folder), weights)


def _adapter(work: _Work) -> dict[str, Any]:
    from sft_runner.exporting import adapter, card

    target = work.folder / "adapter"
    adapter.write(work.inputs["train"] / "adapter", work.model, work.record.base, target, work.meter)
    card.write(target, work.record, work.licence, adapter=True)
    return {}


def _safetensors(work: _Work) -> dict[str, Any]:
    from sft_runner.exporting import card
    from sft_runner.exporting.copying import copy

    target = work.folder / "safetensors"
    copy((file for file in sorted(work.model.iterdir()) if file.is_file()), target, work.meter)
    card.write(target, work.record, work.licence)
    return {}


def _gguf(work: _Work) -> dict[str, Any]:
    from sft_runner.exporting.gguf import file, proof

    target = work.folder / "gguf" / work.gguf
    target.parent.mkdir()
    notes = file.write(work.model, target, work.config.name, work.weights, work.meter)
    kind = file.kind_of(work.weights)
    proven = proof.prove(target, work.model, kind, _rows(work, PROVING_ROWS), work.meter)
    return {"type": kind, "proof": asdict(proven), "notes": notes}


def _ollama(work: _Work) -> dict[str, Any]:
    from sft_runner.exporting.ollama import modelfile

    weights = f"../gguf/{work.gguf}" if work.weights else "../safetensors"
    proven = modelfile.write(work.model, weights, work.folder / "ollama", work.config.name, _rows(work, PROMPTS))
    return {"prompts_compared": proven.rows, "prompts_left_out": proven.left_out, "notes": proven.notes}


def _archive(work: _Work) -> dict[str, Any]:
    import json

    import yaml

    from sft_runner.exporting import archive, card
    from sft_runner.exporting.adapter import CONFIG, configuration

    files = {f"model/{file.name}": file for file in sorted(work.model.iterdir()) if file.is_file()}
    texts = {
        "README.md": card.text(work.record, work.licence),
        "config.yaml": yaml.safe_dump(work.record.settings, sort_keys=True, allow_unicode=True),
    }
    adapter = work.inputs["train"] / "adapter"
    if adapter.is_dir():
        texts["adapter/README.md"] = card.text(work.record, work.licence, adapter=True)
        texts[f"adapter/{CONFIG}"] = json.dumps(configuration(adapter, work.record.base), indent=1) + "\n"
        files |= {f"adapter/{file.name}": file for file in sorted(adapter.iterdir()) if file.is_file()}
    for stage, names in _TOLD.items():
        found = (work.inputs[stage] / name for name in names)
        texts |= {f"{stage}/{path.name}": work.record.told(path) for path in found if path.is_file()}
    archive.write(files, texts, work.folder / "archive", work.config.name, work.meter)
    return {}


_TOLD = {
    "prepare": ("report.json", "report.html"),
    "train": ("training.json", "report.html"),
    "merge": ("proof.json",),
    "evaluate": ("scores.json",),
}
"""Of each stage what the archive holds besides weights."""
_FORMS: dict[str, Callable[[_Work], dict[str, Any]]] = {
    "adapter": _adapter,
    "safetensors": _safetensors,
    "gguf": _gguf,
    "ollama": _ollama,
    "archive": _archive,
}


def _rows(work: _Work, limit: int) -> Any:
    """Held-out rows, or where none were held out others. Raises `DataError` where there are none."""
    from sft_runner.data.prepared import HELD_OUT, TRAIN
    from sft_runner.errors import DataError
    from sft_runner.model.rows import first_rows

    prepared = work.inputs["prepare"]
    rows = first_rows(prepared / HELD_OUT, limit) or first_rows(prepared / TRAIN, limit)
    if rows is None:
        raise DataError("data.path: no row was prepared to compare the exported model on", "give more rows")
    return rows
