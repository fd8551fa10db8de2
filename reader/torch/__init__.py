"""For PyTorch; importing this imports torch."""
