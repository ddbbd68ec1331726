"""Success rates with intervals, and the tables of the paper."""
