"""What the command line runs. What is heavy is imported by the command that needs it."""
