"""How much of what takes long the tests do: ``make test`` kills at sampled steps, ``make walk`` at all."""

import os

WHOLE = "RUNBOOK_WALK" in os.environ
