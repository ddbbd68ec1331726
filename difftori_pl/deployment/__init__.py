"""Load trained policies for a robot, and export them as programs."""
