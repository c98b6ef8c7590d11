"""The built-in plugins: one folder a seam, one file a choice. They use the same entry points and public names as anybody's."""
