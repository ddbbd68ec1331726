"""File formats of demonstrations: readers, checks and checksums."""
