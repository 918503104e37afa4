"""Where signed records lie: `objects.py`, by name, in a directory or an S3 bucket."""
