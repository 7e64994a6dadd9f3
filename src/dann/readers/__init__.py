"""Readers of the users' files."""

from .table import Table, check_cells, in_numbers, read_table

__all__ = ["Table", "check_cells", "in_numbers", "read_table"]
