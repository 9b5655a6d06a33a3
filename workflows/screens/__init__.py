"""One workflow on thousands of structures, by workers, whole after any kill."""
