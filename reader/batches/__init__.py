"""How a batch is made, whoever makes it."""
