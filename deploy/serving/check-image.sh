#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks a release in the real TensorFlow Serving, with this folder's batching: every
# answer as the trainer gave it, and the law of ids.
#   deploy/serving/check-image.sh MODELS/NAME [IMAGE]
# Where no Docker runs it says that it was skipped, with status 0. PYTHON names the
# interpreter that has Quern.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ $# -lt 1 ] || [ ! -d "$1" ]; then
    echo "error: wanted MODELS/NAME, a directory of versions, found '${1-}'" >&2
    exit 2
fi
model=$(CDPATH='' cd -- "$1" && pwd)
image=${2-$(sed -n 's/^FROM //p' "$here/../containers/serving.Dockerfile")}
if ! docker info >/dev/null 2>&1; then
    echo "skipped: no Docker runs here, so $image was not asked"
    exit 0
fi

container=$(docker run --detach --publish 127.0.0.1::8501 \
    --volume "$model:/models/quern:ro" \
    --volume "$here/batching.config:/etc/quern/batching.config:ro" \
    "$image" --model_name=quern --model_base_path=/models/quern \
    --enable_batching=true --batching_parameters_file=/etc/quern/batching.config)
trap 'docker rm --force "$container" >/dev/null' EXIT
trap 'exit 1' INT TERM
url=http://$(docker port "$container" 8501/tcp | head -n 1)/v1/models/quern

# Loading and warming up takes seconds for small models, minutes for large ones.
tries=0
until curl --silent --fail "$url" | grep -q '"AVAILABLE"'; do
    tries=$((tries + 1))
    if [ "$tries" -ge "${TRIES-300}" ]; then
        docker logs "$container" 2>&1 | tail -n 20 >&2
        echo "error: wanted $image to serve $model, found the log above" >&2
        exit 1
    fi
    sleep 1
done
"${PYTHON-python3}" -m trainer.check_release "$model" --server "$url"
echo "$image answers as the trainer did"
