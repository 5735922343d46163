"""thadistill prepare: placeholder."""
