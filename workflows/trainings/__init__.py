"""Training and fine-tuning of potentials, and what every training has in common."""
