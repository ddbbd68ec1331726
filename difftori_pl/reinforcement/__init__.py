"""Model-based reinforcement learning: DiffTORIRL, the planner, policy gradients and schedules."""
