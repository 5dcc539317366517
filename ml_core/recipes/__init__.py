"""One recipe per kind of job, which reads in the order in which it runs."""
