"""Conversion: planned before it runs, worked off in units, committed once."""
