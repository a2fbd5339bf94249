"""``python -m wmplay``, as ``torchrun -m wmplay`` needs it: the command line."""

import os
import sys

# Before torch is imported. DDP warns in each process that a model might have no unused weights.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from wmplay.cli import main

if __name__ == "__main__":
    sys.exit(main())
