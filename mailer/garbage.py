"""How often Python looks for garbage that refers to itself: our work makes hardly any, and much that does not."""

import gc

_YOUNG_OBJECTS = 10_000
_YOUNG_PER_MIDDLE, _MIDDLE_PER_OLD = 10, 10


def rarely_collect_garbage() -> None:
    """Set what is there aside for good, and look at the rest less often. Call it when a process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_PER_MIDDLE, _MIDDLE_PER_OLD)
