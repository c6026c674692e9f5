"""Diffusion mathematics: schedules, parametrizations and samplers, independent of any network."""
