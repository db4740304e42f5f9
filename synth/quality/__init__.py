"""Quality of a release: measured on the holdout under differential privacy, judged by the contract's thresholds."""
