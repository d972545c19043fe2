"""Where the application's reports go."""
