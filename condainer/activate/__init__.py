"""From a mounted prefix to the user's command or shell."""
