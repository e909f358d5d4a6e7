"""The functions of user data as one process that may be killed at any moment: drains the outbox, applies what the topic has."""

import sys
import time
from pathlib import Path

from functions.errors import TransientError
from local.ground.client import GroundClient
from tests.local.userdata_sites import attach_user_data, now_ms
from tests.local.userdata_stream import Subscriber


def main() -> None:
    folder, database, subscription = sys.argv[1:]
    sites = attach_user_data(GroundClient.open(Path(folder)), database)
    subscriber = Subscriber(sites, subscription)
    while True:
        try:
            sites.drain.run(now_ms() + 5_000)
            subscriber.deliver()
        except TransientError as error:
            sys.stderr.write(f"again: {error}\n")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
