"""SQL, and nothing but SQL: the engine, the models and the statements on them."""
