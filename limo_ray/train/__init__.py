"""Full fine-tuning with Ray Train and DeepSpeed: examples become a model."""
