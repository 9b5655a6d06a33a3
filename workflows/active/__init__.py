"""Models that learn as they run: uncertainty, choice of frames, labels, rounds."""
