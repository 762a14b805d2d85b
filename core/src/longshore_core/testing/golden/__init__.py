"""Handles that releases of drivers have left, as JSON: those of today must understand them."""
