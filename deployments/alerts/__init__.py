"""The receiver: alerts come in by HTTP, are kept on disk, and become runs of Prefect."""
