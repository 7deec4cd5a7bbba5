"""Ready mappings of public data sets' layouts, one TOML file each; read by :mod:`training.mapping`."""
