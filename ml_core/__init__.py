"""The trainers: a PyTorch library and a command line that do not depend on Django, Celery or Redis."""
