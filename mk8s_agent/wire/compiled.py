"""Words for mypyc, the compiler of the optional compiled wheel; in pure Python they do nothing.

They are spelled here because `mypy_extensions` is there when the wheel is built, not when it runs.
"""

from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["mypyc_attr"]

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:
    C = TypeVar("C", bound=type)

    def mypyc_attr(**_attributes: Any) -> Any:
        """`allow_interpreted_subclasses`: classes that are not compiled may derive from this."""

        def unchanged(cls: C) -> C:
            return cls

        return unchanged
