# SPDX-License-Identifier: Apache-2.0
"""A Beam runner of one file: `--runner tests.pipelines.beam.own_runner.OwnRunner`.

Beam makes it by its import path, without arguments, and calls `run_pipeline`. This one
leaves the work to the runner of Beam that needs no cluster, in this process; one for a
cluster derives from `PortableRunner` and says in `default_job_server` where jobs go, as
apache_beam/runners/portability/flink_runner.py does.
"""

import sys

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import Pipeline
from apache_beam.runners.portability.fn_api_runner.fn_runner import (
    FnApiRunner,
    RunnerResult,
)


class OwnRunner(FnApiRunner):
    """Says on standard error that it was asked, and runs the graph to its end."""

    def run_pipeline(
        self, pipeline: Pipeline, options: PipelineOptions
    ) -> RunnerResult:
        """Runs a graph.

        Args:
            pipeline: the graph.
            options: Beam's flags; of its own a runner gets those that Beam hands on,
                such as `--experiments name=value`.
        """
        print("own runner: a job", file=sys.stderr)
        return super().run_pipeline(pipeline, options)
