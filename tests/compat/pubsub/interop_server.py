"""`mainstem` whose Pub/Sub door has the service of gRPC's interop clients beside its own.

python -m tests.compat.pubsub.interop_server serve
"""

from __future__ import annotations

from mainstem.cli import main
from mainstem.doors.pubsub import services
from tests.compat.pubsub.interop_service import handlers

if __name__ == "__main__":
    services.SERVICES += (handlers,)
    main()
