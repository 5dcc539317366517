"""Long tests of uploads and jobs under cut connections, killed processes and slow services."""
