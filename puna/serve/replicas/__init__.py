"""Several servers behind one address: who answers what, and what becomes of those that die."""
