"""The files that Airflow reads, and the demonstration of them."""
