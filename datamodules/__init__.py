"""LightningDataModules for robot-learning data."""
