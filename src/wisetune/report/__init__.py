"""Records become tables, plots and one self-contained page."""

from __future__ import annotations

from wisetune.report.page import page
from wisetune.report.tables import Table, all_tables
from wisetune.report.verdict import summary
from wisetune.report.write import write_report

__all__ = ["Table", "all_tables", "page", "summary", "write_report"]
