"""Readers of the users' files."""

from .table import Table, read_table

__all__ = ["Table", "read_table"]
