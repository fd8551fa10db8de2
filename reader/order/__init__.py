"""Which sample comes when: pure functions of the manifest, the view, the options, the seed and the epoch."""
