"""`python -m local.providers aws`: a provider plugin for the Pulumi engine."""

import sys

from local.providers.plugin import main

sys.exit(main(sys.argv[1:]))
