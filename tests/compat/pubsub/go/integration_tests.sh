#!/usr/bin/env bash
# Builds the integration tests of Google's Go client as one program, FILE, and puts the files that they read into the
# folder FILE.files: they are part of its module, and log in to
# Google's service, so they are compiled in a copy from which the login and Google's own addresses are taken out.
set -euo pipefail
program=$(realpath -m "$1")
cd "$(dirname "$0")"
[ -d "$program.files" ] && cmp -s go.sum "$program.sum" && exit
go mod download cloud.google.com/go/pubsub/v2
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$(go list -m -f '{{.Dir}}' cloud.google.com/go/pubsub/v2)/." "$copy"
chmod -R u+w "$copy"
sed -i 's/, option.WithEndpoint("us-west1-pubsub.googleapis.com:443")//
/ts := testutil.TokenSource(ctx, ScopePubSub, ScopeCloudPlatform)/d
/^\tif ts == nil {/,/^\t}/d
s/append(withGRPCHeadersAssertion(t, option.WithTokenSource(ts)), opts...)/append(withGRPCHeadersAssertion(t), opts...)/' \
  "$copy/integration_test.go"
if grep -q 'us-west1\|WithTokenSource(ts)' "$copy/integration_test.go"; then
  echo "the integration tests of pubsub/v2 have changed: adapt $0" >&2
  exit 1
fi
(cd "$copy" && go test -c -o "$program" .)
mkdir -p "$program.files"
cp -r "$copy/testdata" "$program.files"
cp go.sum "$program.sum"
