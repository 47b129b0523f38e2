"""Records become tables, plots and one self-contained page."""
