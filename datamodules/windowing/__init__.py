"""Windows of demonstrations: columns, splits, statistics and loaders."""
