"""When clients are asked, and on what devices."""
