"""What a job produced, as figures, tables and sentences for pages and reports."""
