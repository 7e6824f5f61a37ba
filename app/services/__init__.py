"""Use cases. Each method: one transaction, then the invalidation, then the answer."""
