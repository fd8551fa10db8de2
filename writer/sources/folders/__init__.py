"""Folders of pictures, sounds and texts, by class, by name, or as a table beside them says."""
