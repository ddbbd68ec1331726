"""File formats of demonstrations: readers, checks and damage."""
