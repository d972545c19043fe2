"""Which models can keep their KV in fewer bits, and in which groups.

What cannot is refused: memory in another precision than was asked for would be found out too late.
"""

from dataclasses import replace
from typing import Final

from semantic.domain.cache_spec import GROUP_SIZES, KVQuantization, ModelCacheSpec
from semantic.domain.errors import IncompatibleCacheError

_NARROWEST_GROUP: Final = min(GROUP_SIZES)


def in_bits(spec: ModelCacheSpec | None, bits: int) -> ModelCacheSpec:
    """The caches of `spec`, kept in so many bits an element.

    Raises:
        IncompatibleCacheError: saying what stands against it.
    """
    if spec is None:
        raise IncompatibleCacheError("its KV cannot be kept at all")
    if spec.group_size is None:
        odd = ", ".join(str(width) for width in spec.widths if width % _NARROWEST_GROUP)
        raise IncompatibleCacheError(
            f"keys or values of width {odd} are not made of groups of {_NARROWEST_GROUP}"
        )
    return replace(spec, quantization=KVQuantization(bits, spec.group_size))
