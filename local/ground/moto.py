"""moto's server without its line of log a request: pollers would fill the disk of a ground that runs for days."""

import logging

from moto.server import main

if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    main()
