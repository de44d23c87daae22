"""Training, evaluation, prediction and checkpoints: one loop for all methods."""
