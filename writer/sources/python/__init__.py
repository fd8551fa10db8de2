"""Python objects as inputs, and functions that make samples of them."""
