"""The stages, in the order in which they run. Importing them is cheap; their work imports what it needs."""

from sft_runner.stages.baseline import Baseline
from sft_runner.stages.evaluate import Evaluate
from sft_runner.stages.export import Export
from sft_runner.stages.merge import Merge
from sft_runner.stages.prepare import Prepare
from sft_runner.stages.serve import Serve
from sft_runner.stages.stage import Stage
from sft_runner.stages.train import Train

STAGES: dict[str, Stage] = {
    stage.name: stage for stage in (Prepare(), Baseline(), Train(), Merge(), Evaluate(), Export(), Serve())
}
