"""The units of actions: scaling, rotations, and the conventions of robosuite."""
