"""Settings: what there is to set, how layers are merged, what a command line says."""
