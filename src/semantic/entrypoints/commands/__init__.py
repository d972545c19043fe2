"""The commands of `semantic`, a module each. They translate and print; others decide."""
