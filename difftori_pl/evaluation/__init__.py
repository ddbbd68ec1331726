"""Success rates with confidence intervals, and the tables of the paper."""
