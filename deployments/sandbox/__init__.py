"""The two operated systems in small, made of real servers: what the demo and the tests run on."""
