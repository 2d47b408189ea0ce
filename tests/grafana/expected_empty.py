"""What has no data under the load although it is right, each with the reason. A test keeps the lists true."""

from collections.abc import Mapping
from types import MappingProxyType

VALUES: Mapping[tuple[str, str, str], str] = MappingProxyType({})
"""By metric, label and value: the series, and what selects nothing else."""

PIECES: Mapping[str, str] = MappingProxyType({})
"""Besides those: by what an expression is made of, as `pieces_of` writes it."""

EXEMPLARS: Mapping[tuple[str, str], str] = MappingProxyType({})
"""By dashboard and panel."""
