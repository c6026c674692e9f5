"""Fitting and evaluation of the models on a site's own scans."""
