"""What to change about a loader: changes that are tried, and their gain as it was measured."""
