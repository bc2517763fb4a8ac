"""`python -m gpu_backprop` is the command line `gpu-backprop`."""

import sys

from .cli import main

sys.exit(main())
