"""PostgreSQL for Django, with a limit on every wait."""
