"""`python -m dgraph` is the `dgraph` command."""

import sys

from dgraph.cli import main

sys.exit(main())
