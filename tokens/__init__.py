"""Who may what: users, API tokens, roles, permissions.

Users live here and in no app of their own: a user is, like a token, somebody with a role. Roles are checked against what
their giver holds, whoever gets them, and neither could be changed without the other.
"""
