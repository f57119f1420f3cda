"""The doctor: what is wrong with a config, its files, its data and this machine."""
