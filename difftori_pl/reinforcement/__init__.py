"""Model-based reinforcement learning: DiffTORIRL, its losses, the planner, policy gradients and schedules."""
