# SPDX-License-Identifier: Apache-2.0
"""What `forked.py` loads once: TensorFlow, and what training imports."""

import os

# Read when TensorFlow is loaded: what `quiet_tensorflow` asks for.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import trainer.distribution.coordinator
import trainer.distribution.rendezvous
import trainer.distribution.servers
import trainer.distribution.strategies
import trainer.loop.plan
import trainer.loop.train_run  # noqa: F401
