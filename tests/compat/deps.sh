#!/usr/bin/env bash
# Lays what the compat suites need under .cache/compat and in the folders of the suites, from pinned versions:
# two Python environments, the jars of Kafka's clients, tools and server, the Go programs, KafkaJS.
# Called by `make deps-all`. A language that the machine lacks is named and left out; its tests then skip.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/compat
built=.cache/compat
mkdir -p "$built"

# A registry has a bad minute now and then: three tries.
try() {
  local n
  for n in 1 2 3; do
    "$@" && return 0
    echo "try $n failed: $*" >&2
    sleep $((n * 5))
  done
  return 1
}

lacks() {
  command -v "$1" >/dev/null && return 1
  echo "NOT INSTALLED: $1 (apt-get install $2); its suites will be skipped" >&2
}

python_environment() { # NAME REQUIREMENTS
  local stamp="$built/$1/.installed"
  cmp -s "$2" "$stamp" && return
  "${PYTHON:-python3}" -m venv "$built/$1"
  try "$built/$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2"
  cp "$2" "$stamp"
}

python_environment python "$here/requirements.txt"
python_environment quix "$here/quixstreams/requirements.txt"

if ! lacks java default-jdk-headless && ! lacks mvn maven; then
  # Without the network when everything has been fetched before.
  (cd "$here/java" && { mvn -B -q -o package >/dev/null 2>&1 || try mvn -B -q package; })
fi
if ! lacks go golang; then
  (cd "$here/go" && try go build -o "../../../$built/bin/" ./franz ./sarama ./kafka_go)
fi
if ! lacks npm npm; then
  (cd "$here/node" && { cmp -s package-lock.json node_modules/.installed || { try npm ci --silent && cp package-lock.json node_modules/.installed; }; })
fi
lacks kcat kcat || true
