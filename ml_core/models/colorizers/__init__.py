"""Networks and rules that give a grey micrograph its colour."""
