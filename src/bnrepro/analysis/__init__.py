"""From collected tables to statistics, figures and verdicts. Imports no torch, hydra, wandb or jax."""
