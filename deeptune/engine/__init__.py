"""Training, evaluation, prediction and embedding. The only room that computes; it never draws."""
