"""Cells and tables of published studies."""
