"""How a batch is made, in whichever thread or process."""
