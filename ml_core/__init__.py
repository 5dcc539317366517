"""The trainers: a PyTorch library and a command line that know nothing of Django, Celery or Redis."""
