"""Makes src/mainstem/pubsub/protos.binpb, Pub/Sub's messages, from Google's protos (Apache-2.0).

    npm pack @google-cloud/pubsub@5 && tar xzf google-cloud-pubsub-5.*.tgz
    python -m venv venv && venv/bin/pip install grpcio-tools googleapis-common-protos grpc-google-iam-v1
    venv/bin/python tests/pubsub/make_descriptors.py package/build/protos venv/lib/python3.*/site-packages

The arguments are the folders with protos. Needs nothing of this project, and no test runs it.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROTOS = (
    "google/pubsub/v1/pubsub.proto",
    "google/pubsub/v1/schema.proto",
    "google/iam/v1/iam_policy.proto",
    "google/rpc/status.proto",
    "google/rpc/error_details.proto",
)
OUTPUT = Path(__file__).parents[2] / "src" / "mainstem" / "pubsub" / "protos.binpb"


def main(folders: list[str]) -> int:
    from grpc_tools import protoc

    well_known = str(Path(protoc.__file__).parent / "_proto")
    includes = [f"-I{folder}" for folder in [*folders, well_known]]
    arguments = ["protoc", *includes, "--include_imports", f"--descriptor_set_out={OUTPUT}", *PROTOS]
    return int(protoc.main(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
