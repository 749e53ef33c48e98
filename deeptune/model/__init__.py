"""The head, LoRA adapters, and the tuned model."""
