"""The release folder: what arrives in the sharing bucket, and how anyone checks it."""
