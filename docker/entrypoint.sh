#!/bin/sh
# What the container runs: Jupyter for `notebook`, else the command of vizsla that is named.
set -eu

if [ "${1:-}" = notebook ]; then
  shift
  exec jupyter lab --ip=0.0.0.0 --port=8888 --no-browser \
    --LabApp.default_url=/lab/tree/notebooks/active_learning.ipynb "$@"
fi
exec vizsla "$@"
