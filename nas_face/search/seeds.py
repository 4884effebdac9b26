"""Seeds that depend on what they are for, and not on order, parallelism or interruptions."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed from 0 to 2**31 - 1 for one purpose.

    Args:
        seed: of the study.
        purpose: what it is for, such as an `arch_id`.
    """
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF
