"""Diffusion mathematics: schedule, parametrization and samplers, none of which knows a network."""
