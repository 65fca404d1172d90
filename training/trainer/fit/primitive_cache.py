"""How many compiled products oneDNN keeps: on CPUs, it makes one for every shape it meets.

Examples come in many lengths, and a length has a dozen products of its own, each with code and
scratch memory. By default 1,024 are kept, which is hundreds of MiB after some steps; making one
again takes less than a step's noise (docs/LOG.md).
"""

from __future__ import annotations

import os

CAPACITY = 16  # those of one length


def keep_few_primitives() -> None:
    """oneDNN reads it once, at its first product; a value that is set already stays."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(CAPACITY))
