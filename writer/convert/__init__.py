"""Conversion: planned first, made in units, committed once."""
