"""Network modules, without scaling to HU and without sampling."""
