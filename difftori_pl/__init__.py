"""Differentiable trajectory optimisation as a policy class, on PyTorch Lightning."""
