"""Training: losses, batches, the Lightning module, fine-tuning and resume."""
