"""Who may what: users, API tokens, roles, permissions."""
