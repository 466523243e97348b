#!/bin/sh
# What the container runs: Jupyter for `notebook`, else the command of vizsla that is named.
# A secret may come as a file: PGPASSWORD_FILE and VIZSLA_PROJECT_FILE name what holds PGPASSWORD and VIZSLA_PROJECT.
set -eu

if [ -n "${PGPASSWORD_FILE:-}" ]; then
  PGPASSWORD=$(cat "$PGPASSWORD_FILE")
  export PGPASSWORD
fi
if [ -n "${VIZSLA_PROJECT_FILE:-}" ]; then
  VIZSLA_PROJECT=$(cat "$VIZSLA_PROJECT_FILE")
  export VIZSLA_PROJECT
fi

if [ "${1:-}" = notebook ]; then
  shift
  exec jupyter lab --ip=0.0.0.0 --port=8888 --no-browser \
    --LabApp.default_url=/lab/tree/notebooks/active_learning.ipynb "$@"
fi
exec vizsla "$@"
