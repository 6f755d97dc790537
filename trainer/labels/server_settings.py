# SPDX-License-Identifier: Apache-2.0
"""Settings of TensorFlow Serving beside `models.config`, as they are first written.

Written once into a tree of models and left alone from then on: they are for whoever
serves to change. `deploy/serving` has the same two for its image.
"""

SETTINGS = {
    "batching.config": b"""\
# SPDX-License-Identifier: Apache-2.0
# BatchingParameters. Requests that arrive within 5 ms share a batch; batches are padded
# to one of the sizes below, the last of which must be max_batch_size.
# Rows of ids of unequal widths (`detokenize`) share one too: the narrower are filled up
# with their first id, which `num_tokens` leaves out.
pad_variable_length_inputs: true
max_batch_size { value: 16 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 64 }
num_batch_threads { value: 2 }
allowed_batch_sizes: 1
allowed_batch_sizes: 2
allowed_batch_sizes: 4
allowed_batch_sizes: 8
allowed_batch_sizes: 16
""",
    "monitoring.config": b"""\
# SPDX-License-Identifier: Apache-2.0
# MonitoringConfig: GET :8501/monitoring/prometheus/metrics
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
""",
}
