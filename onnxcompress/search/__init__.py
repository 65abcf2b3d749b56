"""The search for the fastest or smallest model that holds the budget."""
