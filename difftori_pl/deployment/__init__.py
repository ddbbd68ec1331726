"""Trained policies on a robot and as exported programs."""
