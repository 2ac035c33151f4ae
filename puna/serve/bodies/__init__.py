"""What a client may send, one file an endpoint; OpenAPI is made from these classes."""
