#!/usr/bin/env bash
# Lays what the compat suites need under .cache/compat and in the folders of the suites, from pinned versions:
# two Python environments, the jars of Kafka's clients, tools and server, the Go programs, KafkaJS. And, as new as they
# are when they are fetched first, the frameworks of examples/recipes and the newest aiokafka.
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
python_environment rstream "$here/rabbitmq_stream/requirements.txt"
python_environment rabbitmq "$here/rabbitmq/requirements.txt"

# The clients of Pub/Sub, while the others are fetched: Go's modules are many, and come slowly.
pubsub_clients() {
  python_environment pubsub "$here/pubsub/requirements.txt"
  if ! lacks go golang; then
    (
      cd "$here/pubsub/go"
      try go build -o "../../../../$built/bin/pstest" ./pstest
      try go build -o "../../../../$built/bin/grpc_interop" google.golang.org/grpc/interop/client
      try go build -o "../../../../$built/bin/h2spec" github.com/summerwind/h2spec/cmd/h2spec
    )
    try bash "$here/pubsub/go/integration_tests.sh" "$built/bin/pubsub_integration.test"
  fi
  if ! lacks npm npm; then node_modules pubsub/node; fi
}

node_modules() { # FOLDER
  (cd "$here/$1" && { cmp -s package-lock.json node_modules/.installed || { try npm ci --silent && cp package-lock.json node_modules/.installed; }; })
}

pubsub_clients &
pubsub_job=$!

# rabbitmqadmin 2 is a program in Rust, of many crates: built without optimisation, in a minute or two of both cores.
# A toolchain too old for it is no reason to stop.
rabbitmqadmin() {
  local version=2.35.0
  [ "$(cat "$built/rabbitmqadmin/.version" 2>/dev/null)" = "$version" ] && return
  CARGO_PROFILE_DEV_DEBUG=0 try cargo install --quiet --locked --debug --force --root "$built/rabbitmqadmin" \
    --version "$version" rabbitmqadmin && echo "$version" >"$built/rabbitmqadmin/.version"
}
if ! lacks cargo rustup; then
  { rabbitmqadmin || echo "NOT BUILT: rabbitmqadmin 2; its test will be skipped" >&2; } &
  rabbitmqadmin_job=$!
fi

# The frameworks of examples/recipes, beside mainstem: an environment of its own, for Quix Streams excludes the newest
# confluent-kafka.
if ! cmp -s pyproject.toml "$built/examples/.installed"; then
  "${PYTHON:-python3}" -m venv "$built/examples"
  try "$built/examples/bin/pip" install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
  try "$built/examples/bin/pip" install --quiet --disable-pip-version-check --editable . --group examples
  cp pyproject.toml "$built/examples/.installed"
fi

# The oldest aiokafka that pyproject.toml allows, and the newest: tests/log/test_aiokafka_versions.py.
aiokafka_at() { # FOLDER REQUIREMENT
  local stamp="$built/$1/.requirement"
  if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$2" ]; then return; fi
  rm -rf "${built:?}/$1"
  try "$built/python/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$built/$1" "$2"
  echo "$2" >"$stamp"
}
aiokafka_range=$(sed -n 's/^  "aiokafka\(.*\)",$/\1/p' pyproject.toml)
oldest=${aiokafka_range%%,*}
aiokafka_at aiokafka-oldest "aiokafka==${oldest#>=}"
aiokafka_at aiokafka-newest "aiokafka$aiokafka_range"

if ! lacks java default-jdk-headless && ! lacks mvn maven; then
  # Without the network when everything has been fetched before; from nothing when versions have changed, for the
  # jars of both would be on the class path.
  for folder in java rabbitmq_stream/java rabbitmq/java pubsub/java; do
    (
      cd "$here/$folder"
      cmp -s pom.xml target/.installed || rm -rf target
      { mvn -B -q -o package >/dev/null 2>&1 || try mvn -B -q package; } && cp pom.xml target/.installed
    )
  done
fi
if ! lacks go golang; then
  (cd "$here/go" && try go build -o "../../../$built/bin/" ./franz ./sarama ./kafka_go ./acls)
  (cd "$here/rabbitmq_stream/go" && try go build -o "../../../../$built/bin/rabbitmq_stream" .)
  (cd "$here/rabbitmq/go" && try go test -c -o /dev/null -tags integration github.com/rabbitmq/amqp091-go)
fi
if ! lacks npm npm; then
  node_modules node
  node_modules rabbitmq/node
fi
lacks kcat kcat || true
lacks amqp-publish amqp-tools || true
compgen -G "/usr/share/rubygems-integration/all/gems/bunny-*" >/dev/null || echo "NOT INSTALLED: bunny (apt-get install ruby-bunny); its suite will be skipped" >&2
wait "$pubsub_job"
wait ${rabbitmqadmin_job:-}
