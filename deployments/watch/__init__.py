"""A check outside of Prefect: are the backups there, does the engine live, and is every dead run ended?"""
