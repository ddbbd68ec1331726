"""What a user writes: find and combine configurations, and explain mistakes in one line."""
