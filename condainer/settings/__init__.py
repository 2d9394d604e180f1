"""What the user, the site and the project have chosen."""
