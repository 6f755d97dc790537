# SPDX-License-Identifier: Apache-2.0
# TensorFlow Serving with Quern's model list, batching and monitoring. Releases are
# mounted, not baked in, so that a new version is served as soon as it is exported.
# Build from the repository's root:
#   docker build -f deploy/containers/serving.Dockerfile -t quern-serving .
#   docker run -p 8500:8500 -p 8501:8501 -v "$PWD/models:/models" quern-serving
FROM tensorflow/serving:2.16.1

COPY deploy/serving/models.config deploy/serving/batching.config deploy/serving/monitoring.config /etc/quern/

# The base image's entry point starts tensorflow_model_server on ports 8500 (gRPC) and
# 8501 (REST) and hands these on. Generation takes longer than the default 30 s.
CMD ["--model_config_file=/etc/quern/models.config", \
     "--model_config_file_poll_wait_seconds=60", \
     "--enable_batching=true", \
     "--batching_parameters_file=/etc/quern/batching.config", \
     "--monitoring_config_file=/etc/quern/monitoring.config", \
     "--enable_grpc_healthcheck_service=true", \
     "--rest_api_timeout_in_ms=120000"]
