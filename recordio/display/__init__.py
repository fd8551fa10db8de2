"""Values and datasets as text and as HTML, for terminals, notebooks and pages."""
