"""For PyTorch; importing this imports torch, and makes our datasets torch's as well."""

from recordio.reader.torch.adoption import adopt

adopt()
