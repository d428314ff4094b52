"""A small training loop for every method: data, nets, batches, checkpoints, logs."""
