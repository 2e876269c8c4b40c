"""The identity of a delivery: it follows from run and address, so it is the same after a restore."""

import hashlib
from functools import lru_cache

_RUN_LENGTH = 8
_KEY_LENGTH = 32


def delivery_key(run_id: str, canonical: str) -> str:
    """Return the key of the delivery to an address.

    Keys of one run begin alike, so that they, and the log's, lie together in their indexes: with keys all over, each
    message would change a page of its own among those of ten million old ones.
    """
    return run_prefix(run_id) + first_key(run_id, canonical)[: _KEY_LENGTH - _RUN_LENGTH]


@lru_cache(maxsize=64)  # the keys of a batch are made one after the other
def run_prefix(run_id: str) -> str:
    """Return how the keys of a run begin."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:_RUN_LENGTH]


def first_key(run_id: str, canonical: str) -> str:
    """Return the key as it was at first: a run that began with such keys goes on with them, or would send twice."""
    return hashlib.sha256(f"{run_id}\0{canonical}".encode()).hexdigest()[:_KEY_LENGTH]
