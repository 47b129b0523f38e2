"""The named trees: ft, lp, lp-ft, wise-ft, wise-ft-lp."""
