"""Tokens in place of a source's text."""
